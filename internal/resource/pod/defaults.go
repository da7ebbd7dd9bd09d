package pod

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func setDefaults(p *corev1.Pod) {
	spec := &p.Spec
	setDefault(&spec.DNSPolicy, corev1.DNSClusterFirst)
	setDefault(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&spec.SchedulerName, corev1.DefaultSchedulerName)
	setDefaultPtr(&spec.SecurityContext, corev1.PodSecurityContext{})
	setDefaultPtr(&spec.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	setDefaultPtr(&spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if *spec.TerminationGracePeriodSeconds < 0 {
		*spec.TerminationGracePeriodSeconds = 1
	}
	// The old field is an alias; the new one wins.
	setDefault(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName

	for i := range spec.Volumes {
		setVolumeDefaults(&spec.Volumes[i].VolumeSource)
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			setContainerDefaults(&containers[i], spec.HostNetwork)
			requestLimits(&containers[i].Resources)
		}
	}
	for i := range spec.EphemeralContainers {
		setContainerDefaults((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), false)
	}
	if spec.Resources != nil {
		roundUp(spec.Resources.Limits)
		roundUp(spec.Resources.Requests)
		requestLimits(spec.Resources)
	}
	roundUp(spec.Overhead)
	setAddressDefaults(&p.Status)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setDefaultPtr[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// setAddressDefaults keeps the single address of older clients and the list
// in step; the single one is authoritative.
func setAddressDefaults(s *corev1.PodStatus) {
	switch {
	case s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP):
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	case len(s.PodIPs) > 0:
		s.PodIP = s.PodIPs[0].IP
	}
}

func setContainerDefaults(c *corev1.Container, hostNetwork bool) {
	setDefault(&c.ImagePullPolicy, pullPolicy(c.Image))
	setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, corev1.ProtocolTCP)
		if hostNetwork {
			setDefault(&c.Ports[i].HostPort, c.Ports[i].ContainerPort)
		}
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		if from.FieldRef != nil {
			setDefault(&from.FieldRef.APIVersion, "v1")
		}
		if from.FileKeyRef != nil {
			setDefaultPtr(&from.FileKeyRef.Optional, false)
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if probe != nil {
			setProbeDefaults(probe)
		}
	}
	if c.Lifecycle == nil {
		return
	}
	for _, handler := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if handler != nil && handler.HTTPGet != nil {
			setHTTPGetDefaults(handler.HTTPGet)
		}
	}
}

func setProbeDefaults(p *corev1.Probe) {
	setDefault(&p.TimeoutSeconds, 1)
	setDefault(&p.PeriodSeconds, 10)
	setDefault(&p.SuccessThreshold, 1)
	setDefault(&p.FailureThreshold, 3)
	if p.HTTPGet != nil {
		setHTTPGetDefaults(p.HTTPGet)
	}
	if p.GRPC != nil {
		setDefaultPtr(&p.GRPC.Service, "")
	}
}

func setHTTPGetDefaults(g *corev1.HTTPGetAction) {
	setDefault(&g.Path, "/")
	setDefault(&g.Scheme, corev1.URISchemeHTTP)
}

func setVolumeDefaults(v *corev1.VolumeSource) {
	if *v == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		return
	}
	if s := v.Image; s != nil {
		setDefault(&s.PullPolicy, pullPolicy(s.Reference))
	}
	if s := v.HostPath; s != nil {
		setDefaultPtr(&s.Type, corev1.HostPathUnset)
	}
	if s := v.Secret; s != nil {
		setDefaultPtr(&s.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if s := v.ConfigMap; s != nil {
		setDefaultPtr(&s.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if s := v.DownwardAPI; s != nil {
		setDefaultPtr(&s.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		setFieldDefaults(s.Items)
	}
	if s := v.Projected; s != nil {
		setDefaultPtr(&s.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
		for i := range s.Sources {
			if d := s.Sources[i].DownwardAPI; d != nil {
				setFieldDefaults(d.Items)
			}
			if t := s.Sources[i].ServiceAccountToken; t != nil {
				setDefaultPtr(&t.ExpirationSeconds, int64(60*60))
			}
		}
	}
	if s := v.Ephemeral; s != nil && s.VolumeClaimTemplate != nil {
		setDefaultPtr(&s.VolumeClaimTemplate.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	}
}

func setFieldDefaults(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if ref := items[i].FieldRef; ref != nil {
			setDefault(&ref.APIVersion, "v1")
		}
	}
}

// roundUp takes amounts to thousandths, below which nothing is measured.
func roundUp(list corev1.ResourceList) {
	for name, quantity := range list {
		quantity.RoundUp(-3)
		list[name] = quantity
	}
}

// requestLimits asks for what is limited, where nothing else is asked for.
func requestLimits(r *corev1.ResourceRequirements) {
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; ok {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = limit.DeepCopy()
	}
}

// pullPolicy pulls an image whose tag may move each time. A reference without
// a tag means the tag latest, unless it has a digest.
func pullPolicy(image string) corev1.PullPolicy {
	name, _, digested := strings.Cut(image, "@")
	// A colon before the last slash belongs to the port of the registry.
	_, tag, tagged := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	switch {
	case tagged && tag == "latest", !tagged && !digested && image != "":
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
