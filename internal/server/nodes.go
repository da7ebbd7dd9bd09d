package server

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph/nodeneeds"
	"github.com/gatehouse-dev/gatehouse/internal/access/noderule"
	"github.com/gatehouse-dev/gatehouse/internal/admission/noderestriction"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// podGraph follows pods into what nodes may read.
type podGraph struct{ to *nodegraph.Graph }

var _ kubeapi.Sink = podGraph{}

func (g podGraph) Replace(objs []resource.Object) error {
	sources := make([]nodegraph.Source, 0, len(objs))
	for _, o := range objs {
		if s, ok := nodeneeds.FromPod(o.(*corev1.Pod)); ok {
			sources = append(sources, s)
		}
	}
	g.to.Replace(nodegraph.Pod, sources)
	return nil
}

func (g podGraph) Put(o resource.Object) error {
	if s, ok := nodeneeds.FromPod(o.(*corev1.Pod)); ok {
		g.to.Put(s)
		return nil
	}
	return g.Delete(o)
}

func (g podGraph) Delete(o resource.Object) error {
	g.to.Delete("", nodegraph.Object{Kind: nodegraph.Pod, Namespace: o.GetNamespace(), Name: o.GetName()})
	return nil
}

// restrictNodes looks at what nodes write, with the objects as etcd has them.
func restrictNodes(obj *objects, answers reviews) kubeapi.Admit {
	rules := &noderestriction.Rules{
		Pod: func(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
			return obj.pod(ctx, namespace, name)
		},
		Node: func(ctx context.Context, name string) (*corev1.Node, error) {
			o, err := obj.frame.Get(ctx, nodes, "", name)
			if err != nil {
				return nil, err
			}
			return o.(*corev1.Node), nil
		},
		Permit: answers.Permit,
	}
	return rules.Admit
}

var nodeKind = corev1.SchemeGroupVersion.WithKind("Node")

var nodeRules = schema.GroupResource{Group: accessapi.GroupVersion.Group, Resource: "noderules"}

// holdToNodeRules looks at changes that only a NodeRule allowed.
func holdToNodeRules(rules *noderule.Rules, access *access.Authorizer) kubeapi.Admit {
	return func(ctx context.Context, c *resource.Change) error {
		// Rules open no other verb and no subresource.
		if c.Resource != nodes || c.Subresource != "" || c.Verb != "patch" && c.Verb != "update" {
			return nil
		}
		q := authz.Request{ResourceRequest: true, Verb: c.Verb, Resource: c.Resource.Resource, Name: c.Name}
		var err error
		if q.Object, err = kubeapi.Content(c.Object, nodeKind); err == nil {
			q.OldObject, err = kubeapi.Content(c.Old, nodeKind)
		}
		if err != nil {
			return err
		}
		by, err := access.OnNodeRule(ctx, subject(c.Caller), q)
		if err != nil || !by {
			return err
		}
		return rules.Admit(c)
	}
}

// nodeRule refuses to hand out what its author may not do: change nodes.
func (r reviews) nodeRule(ctx context.Context, by resource.Caller, _, _ *accessapi.NodeRule) error {
	return r.need(ctx, by, "let agents change nodes", authz.Request{ResourceRequest: true, Verb: "patch", Resource: "nodes"})
}
