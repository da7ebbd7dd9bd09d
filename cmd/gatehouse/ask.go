package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// askOptions are the flags that can-i, who-can and explain share.
type askOptions struct {
	kubeconfig, output       string
	namespace                string
	allNamespaces            bool
	fieldSelector, label     string
	subject, uid, credential string
	groups                   []string
}

// questionHelp explains the words of a question.
const questionHelp = `The question is VERB RESOURCE [NAME], where RESOURCE is plural and written as
RESOURCE[.GROUP][/SUBRESOURCE], or RESOURCE/NAME; or it is VERB /PATH for a URL.`

func (o *askOptions) questionFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "namespace of the question")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "ask about all namespaces, or about what is in none")
	f.StringVarP(&o.label, "selector", "l", "", "label selector of a list, watch or deletecollection")
	f.StringVar(&o.fieldSelector, "field-selector", "", "field selector of a list, watch or deletecollection")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
}

func (o *askOptions) subjectFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.subject, "as", "", "ask about this user, or serviceaccount/NAMESPACE/NAME, instead of yourself")
	f.StringSliceVar(&o.groups, "as-group", nil, "groups of that subject")
	f.StringVar(&o.uid, "as-uid", "", "UID of that subject")
	f.StringVar(&o.credential, "credential", "", "id of the credential that the subject uses")
}

// about is whom the question is about, nil for the caller.
func (o *askOptions) about() (*access.ReviewSubject, error) {
	if o.subject == "" && len(o.groups) == 0 {
		if o.uid != "" || o.credential != "" {
			return nil, errors.New("--as-uid and --credential belong to --as")
		}
		return nil, nil
	}
	s := &access.ReviewSubject{User: o.subject, UID: o.uid, Groups: o.groups}
	if kind, namespace, name, err := parseSubject(o.subject); err == nil && kind == access.SubjectServiceAccount {
		s.User = "system:serviceaccount:" + namespace + ":" + name
		if len(s.Groups) == 0 {
			s.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
		}
	}
	if o.credential != "" {
		s.Extra = map[string]authorizationv1.ExtraValue{"authentication.kubernetes.io/credential-id": {o.credential}}
	}
	return s, nil
}

// question reads the words of a question.
func (o *askOptions) question(args []string) (access.Question, error) {
	if len(args) < 2 || len(args) > 3 || args[0] == "" || args[1] == "" {
		return access.Question{}, errors.New("a question is VERB RESOURCE [NAME] or VERB /PATH")
	}
	verb, what := args[0], args[1]
	if strings.HasPrefix(what, "/") {
		if len(args) == 3 || o.label != "" || o.fieldSelector != "" {
			return access.Question{}, errors.New("a URL has no name and selects nothing")
		}
		return access.Question{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: verb, Path: what}}, nil
	}
	a := &authorizationv1.ResourceAttributes{Verb: verb, Namespace: o.namespace}
	if o.allNamespaces {
		a.Namespace = ""
	}
	what, rest, slash := strings.Cut(what, "/")
	a.Resource, a.Group, _ = strings.Cut(what, ".")
	switch {
	case slash && len(args) == 3:
		a.Subresource, a.Name = rest, args[2]
	case slash && isSubresource(rest):
		a.Subresource = rest
	case slash:
		a.Name = rest
	case len(args) == 3:
		a.Name = args[2]
	}
	if o.label != "" {
		a.LabelSelector = &authorizationv1.LabelSelectorAttributes{RawSelector: o.label}
	}
	if o.fieldSelector != "" {
		a.FieldSelector = &authorizationv1.FieldSelectorAttributes{RawSelector: o.fieldSelector}
	}
	return access.Question{ResourceAttributes: a}, nil
}

// isSubresource reports whether a word behind a resource is a well known part
// of it rather than the name of an object.
func isSubresource(word string) bool {
	switch word {
	case "*", "approval", "attach", "binding", "credential", "ephemeralcontainers", "eviction", "exec", "finalize", "log", "portforward", "proxy", "resize", "scale", "status", "token":
		return true
	}
	return false
}

// words renders a question for people.
func words(q *access.Question) string {
	if n := q.NonResourceAttributes; n != nil {
		return n.Verb + " " + n.Path
	}
	a := q.ResourceAttributes
	text := a.Verb + " " + a.Resource
	if a.Group != "" {
		text += "." + a.Group
	}
	if a.Subresource != "" {
		text += "/" + a.Subresource
	}
	if a.Name != "" {
		text += " " + a.Name
	}
	if a.Namespace != "" {
		return text + " in namespace " + a.Namespace
	}
	return text + " everywhere"
}

// shown renders a subject as policies name it.
func shown(s *access.Subject) string {
	name := s.Name
	if s.Domain != "" {
		name = "of domain " + s.Domain
	}
	if s.NamePrefix != "" {
		name = s.NamePrefix + "*"
	}
	if s.Namespace != "" {
		name = s.Namespace + "/" + name
	}
	return fmt.Sprintf("%s/%s", s.Kind, name)
}
