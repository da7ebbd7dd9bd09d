package pod

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

// validate checks a new pod.
func validate(p *corev1.Pod) field.ErrorList {
	errs := validateSpec(p)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "can only be set through /ephemeralcontainers"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set before every scheduling gate is gone"))
	}
	if mirror(p) {
		errs = append(errs, validateMirror(p)...)
	}
	return errs
}

// validateMirror keeps the pods that nodes report on their own away from
// everything that the control plane hands out.
func validateMirror(p *corev1.Pod) field.ErrorList {
	const msg = "a mirror pod cannot have it"
	var errs field.ErrorList
	if p.Spec.NodeName == "" {
		errs = append(errs, field.Required(specPath.Child("nodeName"), "a mirror pod has a node"))
	}
	if p.Spec.ServiceAccountName != "" {
		errs = append(errs, field.Forbidden(specPath.Child("serviceAccountName"), msg))
	}
	for i := range p.Spec.ImagePullSecrets {
		errs = append(errs, field.Forbidden(specPath.Child("imagePullSecrets").Index(i), msg))
	}
	for i := range p.Spec.Volumes {
		at, v := specPath.Child("volumes").Index(i), &p.Spec.Volumes[i].VolumeSource
		if v.Secret != nil {
			errs = append(errs, field.Forbidden(at.Child("secret"), msg))
		}
		if v.CSI != nil && v.CSI.NodePublishSecretRef != nil {
			errs = append(errs, field.Forbidden(at.Child("csi", "nodePublishSecretRef"), msg))
		}
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			at, s := at.Child("projected", "sources").Index(j), &v.Projected.Sources[j]
			if s.Secret != nil {
				errs = append(errs, field.Forbidden(at.Child("secret"), msg))
			}
			if s.ServiceAccountToken != nil {
				errs = append(errs, field.Forbidden(at.Child("serviceAccountToken"), msg))
			}
			if s.PodCertificate != nil {
				errs = append(errs, field.Forbidden(at.Child("podCertificate"), msg))
			}
		}
	}
	eachContainer(&p.Spec, func(c *corev1.Container, at *field.Path) {
		for i := range c.Env {
			if from := c.Env[i].ValueFrom; from != nil && from.SecretKeyRef != nil {
				errs = append(errs, field.Forbidden(at.Child("env").Index(i).Child("valueFrom", "secretKeyRef"), msg))
			}
		}
		for i := range c.EnvFrom {
			if c.EnvFrom[i].SecretRef != nil {
				errs = append(errs, field.Forbidden(at.Child("envFrom").Index(i).Child("secretRef"), msg))
			}
		}
	})
	return errs
}

// eachContainer visits the containers of all three lists.
func eachContainer(spec *corev1.PodSpec, visit func(c *corev1.Container, at *field.Path)) {
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], specPath.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], specPath.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		visit((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), specPath.Child("ephemeralContainers").Index(i))
	}
}

// validateSpec checks what holds throughout the life of a pod.
func validateSpec(p *corev1.Pod) field.ErrorList {
	spec := &p.Spec
	volumes, errs := validateVolumes(p)
	errs = append(errs, validateContainers(spec, volumes)...)
	errs = append(errs, validateSecurity(spec)...)
	errs = append(errs, validateScheduling(p)...)
	errs = append(errs, validateNetwork(spec)...)
	errs = append(errs, oneOf(specPath.Child("restartPolicy"), spec.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, optional(specPath.Child("serviceAccountName"), spec.ServiceAccountName, asName(apivalidation.ValidateServiceAccountName))...)
	errs = append(errs, optional(specPath.Child("priorityClassName"), spec.PriorityClassName, asName(apivalidation.NameIsDNSSubdomain))...)
	if spec.RuntimeClassName != nil {
		errs = append(errs, named(specPath.Child("runtimeClassName"), *spec.RuntimeClassName, asName(apivalidation.NameIsDNSSubdomain))...)
	}
	errs = append(errs, oneOfPtr(specPath.Child("preemptionPolicy"), spec.PreemptionPolicy,
		corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	if s := spec.TerminationGracePeriodSeconds; s == nil {
		errs = append(errs, field.Required(specPath.Child("terminationGracePeriodSeconds"), ""))
	}
	if s := spec.ActiveDeadlineSeconds; s != nil && (*s < 1 || *s > math.MaxInt32) {
		errs = append(errs, field.Invalid(specPath.Child("activeDeadlineSeconds"), *s, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, messages(specPath.Child("readinessGates").Index(i).Child("conditionType"),
			string(gate.ConditionType), validation.IsQualifiedName(string(gate.ConditionType)))...)
	}
	if spec.Overhead != nil {
		errs = append(errs, validateResources(specPath.Child("overhead"), &corev1.ResourceRequirements{Limits: spec.Overhead}, nil)...)
	}
	if spec.Resources != nil {
		errs = append(errs, validatePodResources(specPath.Child("resources"), spec.Resources)...)
	}
	errs = append(errs, validateClaims(spec.ResourceClaims)...)
	if spec.OS != nil {
		errs = append(errs, oneOf(specPath.Child("os", "name"), spec.OS.Name, corev1.Linux, corev1.Windows)...)
	}
	if p.Spec.ServiceAccountName == "" {
		errs = append(errs, validateNoTokens(spec)...)
	}
	return errs
}

// asName fits a check of object names to one of values.
func asName(check func(string, bool) []string) func(string) []string {
	return func(name string) []string { return check(name, false) }
}

func validateNoTokens(spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for i := range spec.Volumes {
		if spec.Volumes[i].Projected == nil {
			continue
		}
		for j := range spec.Volumes[i].Projected.Sources {
			if spec.Volumes[i].Projected.Sources[j].ServiceAccountToken != nil {
				at := specPath.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken")
				errs = append(errs, field.Forbidden(at, "needs a serviceAccountName"))
			}
		}
	}
	return errs
}

// validateClaims checks the claims on devices that containers can refer to.
func validateClaims(claims []corev1.PodResourceClaim) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[string]bool, len(claims))
	for i, c := range claims {
		at := specPath.Child("resourceClaims").Index(i)
		errs = append(errs, named(at.Child("name"), c.Name, validation.IsDNS1123Label)...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen[c.Name] = true
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, c.Name, "resourceClaimName and resourceClaimTemplateName exclude each other"))
		case c.ResourceClaimName != nil:
			errs = append(errs, named(at.Child("resourceClaimName"), *c.ResourceClaimName, asName(apivalidation.NameIsDNSSubdomain))...)
		case c.ResourceClaimTemplateName != nil:
			errs = append(errs, named(at.Child("resourceClaimTemplateName"), *c.ResourceClaimTemplateName, asName(apivalidation.NameIsDNSSubdomain))...)
		default:
			errs = append(errs, field.Invalid(at, c.Name, "must have a resourceClaimName or a resourceClaimTemplateName"))
		}
	}
	return errs
}

const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchBytes = 2048
	maxHostname    = 64
)

// validateNetwork checks names, name resolution and the network of the host.
func validateNetwork(spec *corev1.PodSpec) field.ErrorList {
	errs := oneOf(specPath.Child("dnsPolicy"), spec.DNSPolicy,
		corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	errs = append(errs, optional(specPath.Child("hostname"), spec.Hostname, validation.IsDNS1123Label)...)
	errs = append(errs, optional(specPath.Child("subdomain"), spec.Subdomain, validation.IsDNS1123Label)...)
	if h := spec.HostnameOverride; h != nil {
		at := specPath.Child("hostnameOverride")
		if spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN {
			errs = append(errs, field.Forbidden(at, "cannot be set together with setHostnameAsFQDN"))
		}
		if spec.HostNetwork {
			errs = append(errs, field.Forbidden(at, "cannot be set when hostNetwork is true"))
		}
		if len(*h) > maxHostname {
			errs = append(errs, field.TooLong(at, "", maxHostname))
		}
		errs = append(errs, messages(at, *h, validation.IsDNS1123Subdomain(*h))...)
	}
	for i, alias := range spec.HostAliases {
		at := specPath.Child("hostAliases").Index(i)
		errs = append(errs, address(at.Child("ip"), alias.IP)...)
		for j, name := range alias.Hostnames {
			errs = append(errs, messages(at.Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))...)
		}
	}
	return append(errs, validateDNS(spec)...)
}

func validateDNS(spec *corev1.PodSpec) field.ErrorList {
	at, config := specPath.Child("dnsConfig"), spec.DNSConfig
	if config == nil {
		if spec.DNSPolicy == corev1.DNSNone {
			return field.ErrorList{field.Required(at, "needed when dnsPolicy is None")}
		}
		return nil
	}
	var errs field.ErrorList
	if spec.DNSPolicy == corev1.DNSNone && len(config.Nameservers) == 0 {
		errs = append(errs, field.Required(at.Child("nameservers"), "needed when dnsPolicy is None"))
	}
	if n := len(config.Nameservers); n > maxNameservers {
		errs = append(errs, field.TooMany(at.Child("nameservers"), n, maxNameservers))
	}
	for i, server := range config.Nameservers {
		errs = append(errs, address(at.Child("nameservers").Index(i), server)...)
	}
	if n := len(config.Searches); n > maxSearches {
		errs = append(errs, field.TooMany(at.Child("searches"), n, maxSearches))
	}
	size := 0
	for i, domain := range config.Searches {
		size += len(domain) + 1
		errs = append(errs, validateSearch(at.Child("searches").Index(i), domain)...)
	}
	if size-1 > maxSearchBytes {
		errs = append(errs, field.TooLong(at.Child("searches"), "", maxSearchBytes))
	}
	for i, option := range config.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(at.Child("options").Index(i), ""))
		}
	}
	return errs
}

// validateSearch accepts what resolvers do: the root, and names with
// underscores.
func validateSearch(at *field.Path, domain string) field.ErrorList {
	if domain == "." {
		return nil
	}
	if n := len(domain); n > 0 && domain[n-1] == '.' {
		domain = domain[:n-1]
	}
	return messages(at, domain, validation.IsDNS1123SubdomainWithUnderscore(domain))
}

func validateNodeSelector(selector map[string]string) field.ErrorList {
	return metav1validation.ValidateLabels(selector, specPath.Child("nodeSelector"))
}
