package drift

import (
	"fmt"
	"slices"
	"strings"
)

// setting is what a flag may be wrong in.
type setting struct {
	flag string
	// wrong says what is wrong with a value, or nothing.
	wrong func(value string) string
	// repair is what to do.
	repair string
}

func is(value, why string) func(string) string {
	return func(have string) string {
		if have == value {
			return why
		}
		return ""
	}
}

func isNot(value, why string) func(string) string {
	return func(have string) string {
		if have != value {
			return why
		}
		return ""
	}
}

func present(why string) func(string) string { return func(string) string { return why } }

func holds(word, why string) func(string) string {
	return func(have string) string {
		if slices.Contains(strings.Split(have, ","), word) {
			return why
		}
		return ""
	}
}

// settings are those that a new installation does not have.
var settings = []setting{
	{"authorization-mode", holds("AlwaysAllow", "every request is allowed"), "set --authorization-mode=Node,RBAC"},
	{"authorization-mode", holds("ABAC", "rules in a file grant beside RBAC, unseen by kubectl, and cannot be changed while the server runs"),
		"set --authorization-mode=Node,RBAC, once RBAC objects grant what the file granted"},
	{"authorization-policy-file", present("it is the file of the ABAC mode"), "remove --authorization-policy-file"},
	{"authorization-rbac-super-user", present("it names a user whom RBAC does not limit"), "remove --authorization-rbac-super-user"},
	{"anonymous-auth", is("true", "strangers are let in under a name of their own; a new installation does not ask for that"),
		"remove --anonymous-auth=true, or set --anonymous-auth=false, or list the few paths that strangers may ask for in --authentication-config"},
	{"insecure-port", isNot("0", "requests on this port are neither authenticated nor authorized"), "remove --insecure-port"},
	{"insecure-bind-address", present("requests on this address are neither authenticated nor authorized"), "remove --insecure-bind-address"},
	{"address", present("requests on this address are neither authenticated nor authorized"), "remove --address"},
	{"port", isNot("0", "requests on this port are neither authenticated nor authorized"), "remove --port"},
	{"basic-auth-file", present("passwords stand in a file, in the clear, for ever"), "remove --basic-auth-file"},
	{"token-auth-file", present("tokens stand in a file, in the clear, and never end"), "remove --token-auth-file"},
	{"kubelet-https", is("false", "kubelets are called in the clear"), "remove --kubelet-https"},
	{"service-account-lookup", is("false", "tokens outlive the accounts and Secrets they are of"), "remove --service-account-lookup"},
	{"enable-admission-plugins", holds("AlwaysAdmit", "it does nothing, where something was meant to be checked"), "take AlwaysAdmit out of --enable-admission-plugins"},
	{"admission-control", present("it replaces the whole list of admission plugins by that of its time"), "use --enable-admission-plugins=NodeRestriction instead of --admission-control"},
	{"disable-admission-plugins", anyOf([]string{"NodeRestriction", "ServiceAccount", "NamespaceLifecycle", "PodSecurity", "CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook"}),
		"take these plugins out of --disable-admission-plugins"},
	{"etcd-servers", func(value string) string {
		if strings.Contains(value, "http://") {
			return "everything, Secrets included, is stored and read in the clear"
		}
		return ""
	}, "use https:// in --etcd-servers, with --etcd-cafile, --etcd-certfile and --etcd-keyfile"},
	{"tls-min-version", func(value string) string {
		if value == "VersionTLS10" || value == "VersionTLS11" {
			return "versions of TLS with known weaknesses are accepted"
		}
		return ""
	}, "remove --tls-min-version"},
	{"feature-gates", func(value string) string {
		for _, gate := range strings.Split(value, ",") {
			if slices.Contains([]string{"LegacyServiceAccountTokenNoAutoGeneration=false", "RotateKubeletServerCertificate=false", "ServiceAccountTokenJTI=false",
				"BoundServiceAccountTokenVolume=false", "ServiceAccountTokenNodeBindingValidation=false", "AuthorizeNodeWithSelectors=false", "AnonymousAuthConfigurableEndpoints=false"}, gate) {
				return "it turns off what new installations rely on: " + gate
			}
		}
		return ""
	}, "take it out of --feature-gates"},
}

func anyOf(words []string) func(string) string {
	return func(have string) string {
		for _, word := range strings.Split(have, ",") {
			if slices.Contains(words, word) {
				return "it turns off " + word + ", which new installations have"
			}
		}
		return ""
	}
}

// flags reports what one command line has that a new one would not have.
func (r *comparison) flags(f Flags) {
	values := map[string]string{}
	for _, arg := range f.Args {
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			name, value, given := strings.Cut(name, "=")
			if !given {
				value = "true"
			}
			values[strings.ReplaceAll(name, "_", "-")] = value
		}
	}
	add := func(kind Kind, detail, why, repair string) {
		r.report.Findings = append(r.report.Findings, Finding{Kind: kind, Object: f.Source, Detail: detail, Why: why, Repair: []string{"# kube-apiserver: " + repair}, Manual: true})
	}
	for _, s := range settings {
		if value, ok := values[s.flag]; ok {
			if why := s.wrong(value); why != "" {
				add(InsecureFlag, fmt.Sprintf("--%s=%s", s.flag, value), why, s.repair)
			}
		}
	}
	mode, given := values["authorization-mode"]
	_, configured := values["authorization-config"]
	switch {
	case configured:
		r.note("%s: the authorizers stand in a file of --authorization-config, which was not looked at", f.Source)
	case !given:
		add(MissingDefence, "--authorization-mode", "without the flag every request is allowed", "set --authorization-mode=Node,RBAC")
	default:
		for _, want := range []string{"Node", "RBAC"} {
			if !slices.Contains(strings.Split(mode, ","), want) {
				add(MissingDefence, "--authorization-mode="+mode, "it lacks "+want+", which new installations have", "add "+want+" to --authorization-mode")
			}
		}
	}
	plugins := strings.Split(values["enable-admission-plugins"]+","+values["admission-control"], ",")
	if !slices.Contains(plugins, "NodeRestriction") {
		add(MissingDefence, "--enable-admission-plugins", "without NodeRestriction a node can change what belongs to others", "add NodeRestriction to --enable-admission-plugins")
	}
}
