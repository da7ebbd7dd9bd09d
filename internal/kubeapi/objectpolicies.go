package kubeapi

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	frameaudit "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/filters"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/selector"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// changing are the verbs whose requests end in admission with an object.
var changing = map[string]bool{"create": true, "update": true, "patch": true, "delete": true, "deletecollection": true}

// objectPolicies asks the question of a change again once its objects are
// known. Authorization passed conditions on the object on the promise that this
// happens: whatever cannot be asked here is refused.
type objectPolicies struct {
	to Authorizer
	// reads reports whether any condition reads objects; without one there is
	// nothing to ask again.
	reads func() bool
}

var _ admission.ValidationInterface = objectPolicies{}

// annotationObjects says why a change was refused for what it is about.
const annotationObjects = "access.gatehouse.dev/object-decision"

// Handles implements admission.Interface.
func (objectPolicies) Handles(op admission.Operation) bool { return op != admission.Connect }

// Validate implements admission.ValidationInterface.
func (p objectPolicies) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	u := a.GetUserInfo()
	if !p.reads() || u == user.Info(loopbackUser) {
		return nil
	}
	asked, err := filters.GetAuthorizerAttributes(ctx)
	if err != nil || u == nil || !asked.IsResourceRequest() {
		return admission.NewForbidden(a, errors.New("the request cannot be decided again with its object"))
	}
	fieldSelector, _ := asked.GetFieldSelector()
	labelSelector, _ := asked.GetLabelSelector()
	q := authz.Request{
		ResourceRequest: true, Verb: asked.GetVerb(),
		APIGroup: a.GetResource().Group, Resource: a.GetResource().Resource, Subresource: a.GetSubresource(),
		Namespace: a.GetNamespace(), Name: asked.GetName(),
		FieldSelector: selector.Fields(fieldSelector), LabelSelector: selector.Labels(labelSelector),
	}
	if q.Verb == "deletecollection" {
		q.Name = a.GetName() // asked for each object of the collection
	}
	kind := a.GetKind()
	if q.Object, err = Content(a.GetObject(), kind); err == nil {
		q.OldObject, err = Content(a.GetOldObject(), kind)
	}
	if err != nil {
		return admission.NewForbidden(a, err)
	}
	if err := p.ask(ctx, a, u, &q); err != nil {
		return err
	}
	if a.GetOperation() == admission.Create && q.Verb != "create" {
		// A PUT or PATCH that creates was allowed as both.
		q.Verb = "create"
		return p.ask(ctx, a, u, &q)
	}
	return nil
}

func (p objectPolicies) ask(ctx context.Context, a admission.Attributes, u user.Info, q *authz.Request) error {
	allowed, reason, err := p.to.Decide(ctx, resource.Caller{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}, q)
	if err != nil {
		return statusError(err, resource.Names{}, "")
	}
	if allowed {
		return nil
	}
	if reason == "" {
		reason = "nothing allows it for this object"
	}
	frameaudit.AddAuditAnnotation(ctx, annotationObjects, reason)
	return admission.NewForbidden(a, errors.New(reason))
}

// Content is an object in its JSON form, which conditions read; nil is none.
func Content(obj runtime.Object, kind schema.GroupVersionKind) (map[string]any, error) {
	if obj == nil {
		return nil, nil
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	if m["kind"] == nil {
		m["apiVersion"], m["kind"] = kind.GroupVersion().String(), kind.Kind
	}
	return m, nil
}
