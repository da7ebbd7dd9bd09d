package policy

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// MaxSize bounds a policy file.
const MaxSize = 1 << 20

//go:embed default.yaml
var defaultFile []byte

var defaultPolicy = func() *Policy {
	p, err := Parse(defaultFile)
	if err != nil {
		panic("audit default policy: " + err.Error()) // caught by every test
	}
	return p
}()

// Default returns the policy of default.yaml.
func Default() *Policy { return defaultPolicy }

// DefaultFile returns default.yaml, for an operator to start from.
func DefaultFile() []byte { return slices.Clone(defaultFile) }

// Parse reads and validates a policy file in YAML or JSON. The error lists
// every fault with its field.
func Parse(data []byte) (*Policy, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("audit policy: %d bytes, at most %d", len(data), MaxSize)
	}
	var f File
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	return New(f)
}

// New validates a policy.
func New(f File) (*Policy, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if f.APIVersion != audit.APIVersion {
		fault("apiVersion", "%q is not %s", f.APIVersion, audit.APIVersion)
	}
	if f.Kind != "Policy" {
		fault("kind", "%q is not Policy", f.Kind)
	}
	f.Check(fault)
	if len(errs) > 0 {
		return nil, fmt.Errorf("audit policy: %w", errors.Join(errs...))
	}
	p := &Policy{file: f}
	for _, rule := range f.Rules {
		omit := slices.Clone(f.OmitStages)
		for _, s := range rule.OmitStages {
			if !slices.Contains(omit, s) {
				omit = append(omit, s)
			}
		}
		p.omit = append(p.omit, omit)
	}
	return p, nil
}

// Check calls fault for everything that is wrong with rules and stages, with
// the field in question. Kind and version are not looked at.
func (f *File) Check(fault func(field, format string, args ...any)) {
	if len(f.Rules) == 0 {
		fault("rules", "a policy without rules records nothing")
	}
	validateStages("omitStages", f.OmitStages, fault)
	for i := range f.Rules {
		f.Rules[i].validate(fmt.Sprintf("rules[%d]", i), fault)
	}
}

// subdomain is a DNS subdomain (RFC 1123), as API groups are.
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (r *Rule) validate(field string, fault func(field, format string, args ...any)) {
	switch {
	case r.Level == "":
		fault(field+".level", "required")
	case r.Level.Rank() < 0:
		fault(field+".level", "%q is not None, Metadata, Request or RequestResponse", r.Level)
	}
	validateStages(field+".omitStages", r.OmitStages, fault)
	if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
		fault(field+".nonResourceURLs", "a rule cannot be about both resources and other paths")
	}
	for i, u := range r.NonResourceURLs {
		at := fmt.Sprintf("%s.nonResourceURLs[%d]", field, i)
		if u == "*" {
			continue
		}
		if !strings.HasPrefix(u, "/") {
			fault(at, "%q does not begin with /", u)
		}
		if u != "" && strings.Contains(u[:len(u)-1], "*") {
			fault(at, "%q has a * that is not its last character", u)
		}
	}
	for i, g := range r.Resources {
		at := fmt.Sprintf("%s.resources[%d]", field, i)
		if g.Group != "" && g.Group != "*" && (len(g.Group) > 253 || !subdomain.MatchString(g.Group)) {
			fault(at+".group", "%q is not the name of an API group (without a version)", g.Group)
		}
		if len(g.ResourceNames) > 0 && len(g.Resources) == 0 {
			fault(at+".resourceNames", "needs resources")
		}
	}
}

func validateStages(field string, stages []audit.Stage, fault func(field, format string, args ...any)) {
	for i, s := range stages {
		if !slices.Contains(audit.Stages(), s) {
			fault(fmt.Sprintf("%s[%d]", field, i), "%q is not a stage", s)
		}
	}
}
