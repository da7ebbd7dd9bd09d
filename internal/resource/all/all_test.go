package all

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	auditv1alpha1 "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	identityv1alpha1 "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi/identityprovider"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/impactreview"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var caller = resource.Caller{
	Name:   "jane",
	UID:    "4711",
	Groups: []string{"developers", "system:authenticated"},
	Extra:  map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=1"}},
}

// deps allow everything and answer every question with yes.
func deps() Deps {
	return Deps{
		AssignDomain: func(context.Context, resource.Caller, string, string) error { return nil },
		IssueToken: func(context.Context, resource.Caller, *corev1.ServiceAccount, *authenticationv1.TokenRequest, bool) error {
			return nil
		},
		CheckRole:        func(context.Context, resource.Caller, *rbacv1.Role, *rbacv1.Role) error { return nil },
		CheckClusterRole: func(context.Context, resource.Caller, *rbacv1.ClusterRole, *rbacv1.ClusterRole) error { return nil },
		CheckRoleBinding: func(context.Context, resource.Caller, *rbacv1.RoleBinding, *rbacv1.RoleBinding) error { return nil },
		CheckClusterRoleBinding: func(context.Context, resource.Caller, *rbacv1.ClusterRoleBinding, *rbacv1.ClusterRoleBinding) error {
			return nil
		},
		RotateSiteKeys: func(context.Context, resource.Caller, *federationv1alpha1.Site, *federationv1alpha1.SiteKeyRotation, bool) error {
			return nil
		},
		IssueSiteCredential: func(context.Context, resource.Caller, *federationv1alpha1.Site, *federationv1alpha1.SiteCredential, bool) error {
			return nil
		},
		ValidateAccessPolicy: validatePolicy,
		CheckAccessPolicy: func(context.Context, resource.Caller, *accessv1alpha1.AccessPolicy, *accessv1alpha1.AccessPolicy) error {
			return nil
		},
		CheckAuditSink: func(context.Context, resource.Caller, *auditv1alpha1.AuditSink, *auditv1alpha1.AuditSink) error {
			return nil
		},
		IssueSourceCredential: func(context.Context, resource.Caller, *auditv1alpha1.AuditSource, *auditv1alpha1.AuditSourceCredential, bool) error {
			return nil
		},
		CheckBan: func(context.Context, resource.Caller, *accessv1alpha1.Ban, *accessv1alpha1.Ban) error { return nil },
		IssueProxyCertificate: func(context.Context, resource.Caller, *identityv1alpha1.ProxyCertificateSpec) (identityv1alpha1.ProxyCertificateStatus, error) {
			return identityv1alpha1.ProxyCertificateStatus{CredentialID: "X509SHA256=1"}, nil
		},
		RotateTokenKeys: func(context.Context, resource.Caller, *identityv1alpha1.TokenKeyRotationSpec) (identityv1alpha1.TokenKeyRotationStatus, error) {
			return identityv1alpha1.TokenKeyRotationStatus{KeyID: "next"}, nil
		},
		IssueAccessKey: func(context.Context, resource.Caller, *identityv1alpha1.AccessKey) func(context.Context, *identityv1alpha1.AccessKey) {
			return nil
		},
		CheckAccessKey: func(context.Context, resource.Caller, *identityv1alpha1.AccessKey, *identityv1alpha1.AccessKey) error {
			return nil
		},
		ReachOfKey: func(context.Context, *identityv1alpha1.AccessKey) (identityv1alpha1.AccessKeyReachStatus, error) {
			return identityv1alpha1.AccessKeyReachStatus{}, nil
		},
		ValidateDelegation: func(d *accessv1alpha1.Delegation) field.ErrorList {
			return grant.Validator{
				RoleRules:      func(name string) ([]authz.Rule, bool) { return nil, name == "view" },
				FindDelegation: func(string) (*accessv1alpha1.Delegation, bool) { return nil, false },
				Now:            func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) },
			}.Delegation(d)
		},
		FillDelegation: func(by resource.Caller, d *accessv1alpha1.Delegation) {
			d.Spec.From = accessv1alpha1.DelegationGiver{User: by.Name, UID: by.UID, Groups: by.Groups}
			d.Spec.Author = by.Name
		},
		CheckDelegation: func(context.Context, resource.Caller, *accessv1alpha1.Delegation) error { return nil },
		CheckIdentityProvider: func(context.Context, resource.Caller, *identityv1alpha1.IdentityProvider, *identityv1alpha1.IdentityProvider) error {
			return nil
		},
		ValidateJWT: func(path *field.Path, jwt *identityv1alpha1.JWTAuthenticator) field.ErrorList {
			return identityprovider.Validate(path, jwt, []string{"https://gatehouse.example"})
		},
		CheckSigner:        func(context.Context, resource.Caller, string, string) error { return nil },
		CompileExpressions: func(_, _ *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList { return nil },
		CheckPolicyParams:  func(context.Context, resource.Caller, admissionregistrationv1.ParamKind) error { return nil },
		CheckBindingParams: func(context.Context, resource.Caller, string, admissionregistrationv1.ParamRef) error {
			return nil
		},
		ReviewToken: func(_ context.Context, _ resource.Caller, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
			return authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: spec.Audiences}, nil
		},
		Decide: func(_ context.Context, _ resource.Caller, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: fmt.Sprintf("asked about %s in %s", spec.User, spec.Groups)}, nil
		},
		ListRules: func(context.Context, resource.Caller, string) (authorizationv1.SubjectRulesReviewStatus, error) {
			return authorizationv1.SubjectRulesReviewStatus{}, nil
		},
		ReviewAccess: func(_ context.Context, _ resource.Caller, spec *accessv1alpha1.AccessReviewSpec) (accessv1alpha1.AccessReviewStatus, error) {
			return accessv1alpha1.AccessReviewStatus{All: true, Any: true, Answers: make([]accessv1alpha1.Answer, len(spec.Questions))}, nil
		},
		WhoCan: func(context.Context, resource.Caller, *accessv1alpha1.Question) (accessv1alpha1.WhoCanReviewStatus, error) {
			return accessv1alpha1.WhoCanReviewStatus{}, nil
		},
		Explain: func(context.Context, resource.Caller, *accessv1alpha1.ExplainReviewSpec) (accessv1alpha1.ExplainReviewStatus, error) {
			return accessv1alpha1.ExplainReviewStatus{}, nil
		},
		WhatCan: func(context.Context, resource.Caller, *accessv1alpha1.WhatCanReviewSpec) (accessv1alpha1.WhatCanReviewStatus, error) {
			return accessv1alpha1.WhatCanReviewStatus{}, nil
		},
		Impact: func(context.Context, resource.Caller, impactreview.Changes) (accessv1alpha1.ImpactReviewStatus, error) {
			return accessv1alpha1.ImpactReviewStatus{}, nil
		},
	}
}

// validatePolicy knows one role, and the real conditions.
func validatePolicy(p *accessv1alpha1.AccessPolicy) field.ErrorList {
	environment, err := conditions()
	if err != nil {
		panic(err)
	}
	return grant.Validator{
		RoleRules:      func(name string) ([]authz.Rule, bool) { return nil, name == "view" },
		CheckCondition: grant.Conditions{Environment: environment}.Check,
		Now:            time.Now,
	}.AccessPolicy(p)
}

var conditions = sync.OnceValues(condition.New)

// folder is where the test data of a kind is.
func folder(k resource.Kind) string {
	return filepath.Join("..", strings.ToLower(resource.NamesOf(k).Kind), "testdata")
}

// noInvalid lists the kinds that refuse nothing beyond what decoding refuses.
var noInvalid = []string{"SelfSubjectReview"}

// TestData takes every kind through its test data. A file of valid/ is
// accepted, and what becomes of the object is in the golden file beside it. A
// file of invalid/ is refused for exactly the fields in its "# error:" lines.
// Each further document of a file is a change to the one before, made through
// the subresource in its "# route:" line.
func TestData(t *testing.T) {
	t.Parallel()
	for _, k := range List(deps()) {
		names := resource.NamesOf(k)
		for _, dir := range []string{"valid", "invalid"} {
			files, err := filepath.Glob(filepath.Join(folder(k), dir, "*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) == 0 && (dir == "valid" || !slices.Contains(noInvalid, names.Kind)) {
				t.Errorf("%s has no test data in %s", names.Kind, filepath.Join(folder(k), dir))
			}
			for _, file := range files {
				t.Run(names.Kind+"/"+dir+"/"+filepath.Base(file), func(t *testing.T) {
					t.Parallel()
					c := readCase(t, k, file)
					golden, failures := c.run(t, k)
					if dir == "invalid" {
						if len(c.errors) == 0 {
							t.Fatal("the file has no \"# error:\" line")
						}
						compare(t, failures, c.errors)
						return
					}
					compare(t, failures, nil)
					checkGolden(t, strings.TrimSuffix(file, ".yaml")+".golden", golden)
				})
			}
		}
	}
}

type testCase struct {
	errors []string
	docs   []document
}

type document struct {
	route string
	obj   runtime.Object
}

func readCase(t *testing.T, k resource.Kind, file string) testCase {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c testCase
	for text := range strings.SplitSeq(string(data), "\n---\n") {
		doc := document{obj: decode(t, k, []byte(text))}
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "# error:"); ok {
				c.errors = append(c.errors, strings.TrimSpace(value))
			}
			if value, ok := strings.CutPrefix(line, "# route:"); ok {
				doc.route = strings.TrimSpace(value)
			}
		}
		c.docs = append(c.docs, doc)
	}
	return c
}

func decode(t *testing.T, k resource.Kind, data []byte) runtime.Object {
	t.Helper()
	var obj runtime.Object
	switch k := k.(type) {
	case *resource.Stored:
		obj = k.New()
	case *resource.Answered:
		obj = k.New()
	}
	if err := yaml.UnmarshalStrict(data, obj); err != nil {
		t.Fatalf("decode: %v", err)
	}
	names := resource.NamesOf(k)
	if got, want := obj.GetObjectKind().GroupVersionKind(), names.GroupVersion.WithKind(names.Kind); got != want {
		t.Fatalf("the file holds a %v, want a %v", got, want)
	}
	return obj
}

// run returns the resulting object and the paths of what is wrong with it.
func (c testCase) run(t *testing.T, k resource.Kind) (golden []byte, failures []string) {
	t.Helper()
	switch k := k.(type) {
	case *resource.Answered:
		obj := c.docs[0].obj
		err := k.Answer(t.Context(), caller, obj)
		return marshal(t, obj), failuresOf(err)
	case *resource.Stored:
		obj, errs := create(k, c.docs[0].obj)
		for _, doc := range c.docs[1:] {
			if len(errs) > 0 {
				t.Fatalf("a document before the last is not valid: %v", errs)
			}
			obj, errs = change(t, k, doc.route, doc.obj, obj)
		}
		return describe(t, k, obj), paths(errs)
	}
	t.Fatalf("%T is neither stored nor answered", k)
	return nil, nil
}

// create does what the frame does to a new object, and checks on the way that
// the functions keep their word.
func create(k *resource.Stored, obj runtime.Object) (runtime.Object, field.ErrorList) {
	if k.Default != nil {
		k.Default(obj)
	}
	k.PrepareCreate(caller, obj)
	errs := k.Validate(obj)
	accessor, _ := meta.Accessor(obj)
	for _, msg := range k.ValidateName(accessor.GetName(), false) {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), accessor.GetName(), msg))
	}
	return obj, errs
}

func change(t *testing.T, k *resource.Stored, route string, obj, old runtime.Object) (runtime.Object, field.ErrorList) {
	t.Helper()
	if k.Default != nil {
		k.Default(obj)
	}
	if route == "" {
		k.PrepareUpdate(caller, obj, old)
		return obj, k.ValidateUpdate(obj, old)
	}
	for _, sub := range k.Subresources {
		if sub.Name == route {
			sub.Prepare(caller, obj, old)
			return obj, sub.Validate(obj, old)
		}
	}
	t.Fatalf("%s has no route %q", k.Names.Kind, route)
	return nil, nil
}

func paths(errs field.ErrorList) []string {
	var found []string
	for _, err := range errs {
		found = append(found, err.Field)
	}
	sort.Strings(found)
	return slices.Compact(found)
}

// failuresOf names the fields of a status error, or else its reason.
func failuresOf(err error) []string {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return []string{err.Error()}
	}
	var found []string
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			found = append(found, cause.Field)
		}
	}
	if len(found) == 0 {
		found = []string{string(status.Status().Reason)}
	}
	sort.Strings(found)
	return slices.Compact(found)
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	sort.Strings(want)
	if !slices.Equal(got, want) {
		t.Errorf("errors in\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// ages are the columns whose cells grow older than the golden files.
var ages = []string{"Age", "First Seen", "Last Seen", "Last Heard"}

// describe renders an object with its row of the table and its field
// selectors.
func describe(t *testing.T, k *resource.Stored, obj runtime.Object) []byte {
	t.Helper()
	var out bytes.Buffer
	row := k.Row(obj)
	if len(row) != len(k.Columns) {
		t.Fatalf("a row has %d cells, want %d", len(row), len(k.Columns))
	}
	for i, column := range k.Columns {
		cell := fmt.Sprint(row[i])
		if slices.Contains(ages, column.Name) && !strings.HasPrefix(cell, "<") {
			cell = "<some time>"
		}
		fmt.Fprintf(&out, "# column %s: %s\n", column.Name, cell)
	}
	values := k.FieldValues(obj)
	for _, path := range k.FieldPaths {
		value, ok := values[path]
		if !ok {
			t.Errorf("the field selector %s has no value", path)
		}
		fmt.Fprintf(&out, "# field %s: %s\n", path, value)
	}
	out.Write(recent.ReplaceAllFunc(marshal(t, obj), func(stamp []byte) []byte {
		at, err := time.Parse(time.RFC3339, strings.Trim(string(stamp), `"`))
		if err != nil || time.Since(at) > time.Hour {
			return stamp
		}
		return []byte("<now>")
	}))
	return out.Bytes()
}

// recent finds the times that an object may have been stamped with just now.
var recent = regexp.MustCompile(`"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"`)

func marshal(t *testing.T, obj runtime.Object) []byte {
	t.Helper()
	data, err := yaml.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func checkGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run the test with -update and review the diff), got:\n%s", file, got)
	}
}

// TestPromises checks, on every valid object, what Definition promises to the
// frame: defaults are idempotent, checks change nothing, and neither does a
// change that changes nothing.
func TestPromises(t *testing.T) {
	t.Parallel()
	for _, k := range List(deps()) {
		stored, ok := k.(*resource.Stored)
		if !ok {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(folder(k), "valid", "*.yaml"))
		for _, file := range files {
			t.Run(stored.Names.Kind+"/"+filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				obj, _ := create(stored, readCase(t, k, file).docs[0].obj)

				unchanged(t, "Default is not idempotent", obj, func() {
					if stored.Default != nil {
						stored.Default(obj)
					}
				})
				unchanged(t, "validation changes the object", obj, func() {
					stored.Validate(obj)
					stored.ValidateUpdate(obj, obj)
					stored.Warnings(obj, nil)
				})
				if err := stored.Check(t.Context(), caller, obj, nil); err != nil {
					t.Errorf("check: %v", err)
				}

				same := obj.DeepCopyObject()
				unchanged(t, "PrepareUpdate changes the old object", obj, func() { stored.PrepareUpdate(caller, same, obj) })
				if !apiequality.Semantic.DeepEqual(same, obj) {
					t.Errorf("an update without a change changes something:\n%s\nwant\n%s", marshal(t, same), marshal(t, obj))
				}
				if errs := stored.ValidateUpdate(same, obj); len(errs) > 0 {
					t.Errorf("an update without a change is refused: %v", errs)
				}
				for _, sub := range stored.Subresources {
					same := obj.DeepCopyObject()
					unchanged(t, sub.Name+" changes the old object", obj, func() { sub.Prepare(caller, same, obj) })
					if errs := sub.Validate(same, obj); len(errs) > 0 {
						t.Errorf("a change of %s without a change is refused: %v", sub.Name, errs)
					}
				}
			})
		}
	}
}

func unchanged(t *testing.T, what string, obj runtime.Object, do func()) {
	t.Helper()
	before := obj.DeepCopyObject()
	do()
	if !apiequality.Semantic.DeepEqual(obj, before) {
		t.Errorf("%s:\n%s\nwant\n%s", what, marshal(t, obj), marshal(t, before))
	}
}

// TestList compares the kinds, as discovery shows them, with a golden file,
// and looks for names that clients could confuse.
func TestList(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	taken := map[string]string{}
	for _, k := range List(deps()) {
		names := resource.NamesOf(k)
		for _, name := range append([]string{names.Resource, names.Singular}, names.ShortNames...) {
			if other, ok := taken[name]; ok && other != names.Kind {
				t.Errorf("%s is the name of both %s and %s", name, other, names.Kind)
			}
			taken[name] = names.Kind
		}
		scope := "Cluster"
		if names.Namespaced {
			scope = "Namespaced"
		}
		fmt.Fprintf(&out, "%s %s %s singular=%s short=%v categories=%v\n", names.GroupVersion, names.Kind, names.Resource, names.Singular, names.ShortNames, names.Categories)
		stored, ok := k.(*resource.Stored)
		if !ok {
			fmt.Fprintf(&out, "  %s, answers\n", scope)
			continue
		}
		fmt.Fprintf(&out, "  %s, stored, createOnUpdate=%t unconditionalUpdate=%t sealed=%t ttl=%s\n", scope, stored.CreateOnUpdate, stored.UnconditionalUpdate, stored.Sealed, stored.TTL)
		for _, sub := range stored.Subresources {
			fmt.Fprintf(&out, "  /%s owns=%v ignores=%v\n", sub.Name, sub.Fields, sub.Ignored)
		}
		for _, action := range stored.Actions {
			fmt.Fprintf(&out, "  /%s answers %s\n", action.Name, action.GroupVersionKind)
		}
		if len(stored.FieldPaths) > 0 {
			fmt.Fprintf(&out, "  fields %s\n", strings.Join(stored.FieldPaths, " "))
		}
		var columns []string
		for _, c := range stored.Columns {
			name := c.Name
			if c.Priority > 0 {
				name = "(" + name + ")"
			}
			columns = append(columns, name)
			if c.Description == "" {
				t.Errorf("the column %s of %s has no description", c.Name, names.Kind)
			}
		}
		fmt.Fprintf(&out, "  columns %s\n", strings.Join(columns, ", "))
		if _, err := meta.ListAccessor(stored.NewList()); err != nil {
			t.Errorf("the list of %s: %v", names.Kind, err)
		}
	}
	checkGolden(t, filepath.Join("testdata", "kinds.golden"), out.Bytes())
}
