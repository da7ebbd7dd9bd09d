package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// groupClient speaks to one API group of the control plane.
func groupClient(cfg *rest.Config, gv schema.GroupVersion, add func(*runtime.Scheme) error) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath, cfg.GroupVersion = "/apis", &gv
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(cfg)
}

// accessClient speaks to access.gatehouse.dev.
func accessClient(kubeconfig string) (*rest.RESTClient, error) {
	cfg, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := groupClient(cfg, access.GroupVersion, access.AddToScheme)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	return client, nil
}

// show writes value as data, or has table write it for people.
func show(w io.Writer, format string, value any, table func(io.Writer)) error {
	if format == "table" {
		table(w)
		return nil
	}
	return printData(w, format, value)
}

// parseUntil reads an end: a time, or how long from now.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		if d <= 0 {
			return time.Time{}, errors.New("must be in the future")
		}
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("must be a time such as 2026-12-31T18:00:00Z or a duration such as 8h")
	}
	if !at.After(now) {
		return time.Time{}, errors.New("must be in the future")
	}
	return at, nil
}

// parseSubject reads KIND/NAME, or KIND/NAMESPACE/NAME for a service account.
func parseSubject(text string) (kind access.SubjectKind, namespace, name string, err error) {
	word, rest, ok := strings.Cut(text, "/")
	if ok && rest != "" {
		switch strings.ToLower(word) {
		case "user", "u":
			return access.SubjectUser, "", rest, nil
		case "group", "g":
			return access.SubjectGroup, "", rest, nil
		case "serviceaccount", "sa":
			if namespace, name, ok = strings.Cut(rest, "/"); ok && namespace != "" && name != "" {
				return access.SubjectServiceAccount, namespace, name, nil
			}
		}
	}
	return "", "", "", fmt.Errorf("%q is not user/NAME, group/NAME or serviceaccount/NAMESPACE/NAME", text)
}
