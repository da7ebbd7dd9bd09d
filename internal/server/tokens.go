package server

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// apiAudience is that of the control plane's own API.
const apiAudience = "gatehouse"

// applyTokenKeys puts the keys of a ring into force.
func applyTokenKeys(iss *issuer.Issuer) func(*keys.Set[keys.Tokens], time.Time) error {
	return func(set *keys.Set[keys.Tokens], now time.Time) error {
		var published []crypto.PublicKey
		for _, v := range set.Verifiers(now) {
			published = append(published, v.Public())
		}
		return iss.SetKeys(issuer.Keys{Signing: set.Signer(now), Published: published})
	}
}

// ServiceAccount, Pod, Secret and Node make objects an issuer.Objects.
func (o objects) ServiceAccount(ctx context.Context, namespace, name string) (string, error) {
	return o.uid(ctx, serviceAccounts, namespace, name)
}

func (o objects) Secret(ctx context.Context, namespace, name string) (string, error) {
	return o.uid(ctx, secrets, namespace, name)
}

func (o objects) Node(ctx context.Context, name string) (string, error) {
	uid, err := o.uid(ctx, nodes, "", name)
	if apierrors.IsNotFound(err) {
		return "", fault.Wrap(fault.NotFound, err.Error(), err)
	}
	return uid, err
}

func (o objects) Pod(ctx context.Context, namespace, name string) (issuer.Pod, error) {
	p, err := o.pod(ctx, namespace, name)
	if err != nil {
		return issuer.Pod{}, err
	}
	out := issuer.Pod{UID: string(p.UID), ServiceAccount: p.Spec.ServiceAccountName, NodeName: p.Spec.NodeName}
	for _, c := range p.Spec.Containers {
		out.Containers = append(out.Containers, c.Name)
	}
	for _, c := range p.Spec.InitContainers {
		out.Containers = append(out.Containers, c.Name)
	}
	for _, c := range p.Spec.EphemeralContainers {
		out.Containers = append(out.Containers, c.Name)
	}
	if p.DeletionTimestamp != nil {
		out.Ends = p.DeletionTimestamp.Time
	}
	return out, nil
}

// Site, SitePod and SiteNode are for tokens that are bound to a site.
func (o objects) Site(ctx context.Context, name string) (string, error) {
	return o.uid(ctx, sites, "", name)
}

func (o objects) SitePod(_ context.Context, site, namespace, name string) (string, error) {
	return o.ofSite(site, authn.PodObject, "pods", namespace, name)
}

func (o objects) SiteNode(_ context.Context, site, name string) (string, error) {
	return o.ofSite(site, authn.NodeObject, "nodes", "", name)
}

func (o objects) ofSite(site string, kind authn.ObjectKind, resource, namespace, name string) (string, error) {
	uids, current := o.inSites.SiteObject(site, kind, namespace, name)
	switch {
	case !current:
		return "", fault.Newf(fault.Unavailable, "the objects of site %q are not current: gatehouse-edge watch has confirmed nothing lately", site)
	case len(uids) == 0:
		return "", apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
	case len(uids) > 1:
		return "", fault.Newf(fault.Conflict, "site %q is just replacing %s %q; try again", site, resource, name)
	}
	return uids[0], nil
}

// namespaceOfSite returns where a namespace of a site belongs.
func (o objects) namespaceOfSite(ctx context.Context, site, namespace string) (string, error) {
	obj, err := o.frame.Get(ctx, sites, "", site)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	spec := &obj.(*federationapi.Site).Spec
	if mapped, ok := spec.NamespaceMap[namespace]; ok {
		return mapped, nil
	}
	return spec.OwnerNamespace, nil
}

// state of an object as the authentication chain asks for it when its index
// does not have the object yet.
func (o objects) state(ctx context.Context, key authn.ObjectKey) (authn.ObjectState, bool, error) {
	target, ok := map[authn.ObjectKind]schema.GroupResource{
		authn.ServiceAccountObject: serviceAccounts, authn.PodObject: pods,
		authn.SecretObject: secrets, authn.NodeObject: nodes, authn.SiteObject: sites,
	}[key.Kind]
	if !ok {
		return authn.ObjectState{}, false, fmt.Errorf("unknown kind of bound object %d", key.Kind)
	}
	obj, err := o.frame.Get(ctx, target, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return authn.ObjectState{}, false, nil
	}
	if err != nil {
		return authn.ObjectState{}, false, err
	}
	s := authn.ObjectState{UID: string(obj.GetUID())}
	if t := obj.GetDeletionTimestamp(); t != nil {
		s.Deleted = t.Time
	}
	return s, true, nil
}

// issueToken answers serviceaccounts/token.
func issueToken(requests *issuer.Requests, policy mintPolicy) func(context.Context, resource.Caller, *corev1.ServiceAccount, *authenticationv1.TokenRequest, bool) error {
	return func(ctx context.Context, by resource.Caller, sa *corev1.ServiceAccount, in *authenticationv1.TokenRequest, dryRun bool) error {
		line, err := by.Origin()
		if err != nil {
			return err
		}
		req := issuer.Request{
			Origin:    line,
			Namespace: sa.Namespace, Account: sa.Name,
			BodyName: in.Name, BodyNamespace: in.Namespace, BodyUID: string(in.UID),
			Audiences: in.Spec.Audiences, ExpirationSeconds: in.Spec.ExpirationSeconds,
			// The upstream type has no field for a container, nor for a site.
			Container: in.Annotations[authn.ExtraContainerName],
			Site:      in.Annotations[authn.ExtraSiteName], SiteNamespace: in.Annotations[authn.ExtraSiteNamespace],
			MayBind: func(ctx context.Context, site, namespace string) error {
				return policy.bind(ctx, by, sa.Namespace, site, namespace)
			},
			MayMint: func(ctx context.Context, audience string) error {
				return policy.check(ctx, by, sa.Namespace, sa.Name, audience)
			},
			MayAttest: func(ctx context.Context, uid, group string) error {
				return policy.attest(ctx, sa.Namespace, sa.Name, uid, group)
			},
		}
		for key, values := range in.Spec.Attestations {
			if req.Attestations == nil {
				req.Attestations = map[string][]string{}
			}
			req.Attestations[key] = values
		}
		if b := in.Spec.BoundObjectRef; b != nil {
			req.Bound = &issuer.BoundRef{APIVersion: b.APIVersion, Kind: b.Kind, Name: b.Name, UID: string(b.UID)}
		}
		out, err := requests.Create(ctx, req)
		if err != nil {
			return tokenRequestError(err)
		}
		in.Name, in.Namespace, in.UID = sa.Name, sa.Namespace, sa.UID
		if in.CreationTimestamp.IsZero() {
			in.CreationTimestamp = metav1.NewTime(out.IssuedAt)
		}
		in.Spec.Audiences, in.Spec.ExpirationSeconds = out.Audiences, &out.ExpirationSeconds
		in.Status.ExpirationTimestamp = metav1.NewTime(out.Requested)
		for _, text := range out.Warnings {
			kubeapi.Warn(ctx, text)
		}
		if !dryRun {
			for key, value := range out.Annotations {
				kubeapi.Annotate(ctx, key, value)
			}
			in.Status.Token = out.Text.Reveal()
		}
		return nil
	}
}

// tokenRequestError names the fields as the API does.
func tokenRequestError(err error) error {
	var fields issuer.FieldErrors
	if !errors.As(err, &fields) {
		return err
	}
	var errs field.ErrorList
	for _, f := range fields {
		errs = append(errs, field.Invalid(field.NewPath(f.Path), f.Value, f.Detail))
	}
	return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
}

// serveDocument answers with one of the issuer's documents.
func serveDocument(mediaType string, document func() ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET is served", http.StatusMethodNotAllowed)
			return
		}
		data, err := document()
		if err != nil {
			http.Error(w, "no keys yet", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(issuer.MaxAgeSeconds))
		_, _ = w.Write(data)
	})
}
