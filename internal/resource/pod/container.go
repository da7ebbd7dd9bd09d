package pod

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/amount"
)

const (
	maxRestartRules = 20
	maxExitCodes    = 255
)

// validateContainers checks the three lists: names are unique across all of
// them, and each list has fields that make no sense in it.
func validateContainers(spec *corev1.PodSpec, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	if len(spec.Containers) == 0 {
		errs = append(errs, field.Required(specPath.Child("containers"), ""))
	}
	names := map[string]bool{}
	unique := func(at *field.Path, name string) {
		if name != "" && names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names[name] = true
	}

	ports := map[string]bool{}
	for i := range spec.Containers {
		c, at := &spec.Containers[i], specPath.Child("containers").Index(i)
		errs = append(errs, validateContainer(at, c, spec, volumes)...)
		unique(at, c.Name)
		errs = append(errs, validateHostPorts(at, c, ports, spec.HostNetwork)...)
		errs = append(errs, validateHooks(at, c, spec)...)
		errs = append(errs, validateRestart(at, c)...)
	}
	for i := range spec.InitContainers {
		c, at := &spec.InitContainers[i], specPath.Child("initContainers").Index(i)
		errs = append(errs, validateContainer(at, c, spec, volumes)...)
		unique(at, c.Name)
		// Init containers run one after the other, so only their own ports
		// can conflict.
		errs = append(errs, validateHostPorts(at, c, map[string]bool{}, false)...)
		errs = append(errs, validateRestart(at, c)...)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			errs = append(errs, validateHooks(at, c, spec)...)
		} else {
			errs = append(errs, forbidHooks(at, c)...)
		}
	}
	lasting := make(map[string]bool, len(names))
	for name := range names {
		lasting[name] = true
	}
	for i := range spec.EphemeralContainers {
		ec, at := &spec.EphemeralContainers[i], specPath.Child("ephemeralContainers").Index(i)
		errs = append(errs, validateContainer(at, (*corev1.Container)(&ec.EphemeralContainerCommon), spec, volumes)...)
		unique(at, ec.Name)
		if ec.TargetContainerName != "" && !lasting[ec.TargetContainerName] {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), ec.TargetContainerName))
		}
		errs = append(errs, validateDebugging(at, &ec.EphemeralContainerCommon)...)
	}
	return errs
}

func validateContainer(at *field.Path, c *corev1.Container, spec *corev1.PodSpec, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	errs := named(at.Child("name"), c.Name, validation.IsDNS1123Label)
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), ""))
	} else if trimmed := strings.TrimSpace(c.Image); trimmed != c.Image {
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, oneOf(at.Child("imagePullPolicy"), c.ImagePullPolicy,
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, oneOf(at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		corev1.TerminationMessageFallbackToLogsOnError, corev1.TerminationMessageReadFile)...)
	errs = append(errs, validatePorts(at.Child("ports"), c.Ports)...)
	errs = append(errs, validateEnv(at, c, volumes)...)
	errs = append(errs, validateMounts(at, c, volumes)...)
	errs = append(errs, validateDevices(at, c, volumes)...)
	errs = append(errs, validateResources(at.Child("resources"), &c.Resources, spec.ResourceClaims)...)
	errs = append(errs, validateResizePolicy(at.Child("resizePolicy"), c.ResizePolicy, spec.RestartPolicy)...)
	return append(errs, validateContainerSecurity(at.Child("securityContext"), c.SecurityContext, spec)...)
}

func validatePorts(at *field.Path, ports []corev1.ContainerPort) field.ErrorList {
	var errs field.ErrorList
	names := make(map[string]bool, len(ports))
	for i, p := range ports {
		at := at.Index(i)
		if p.Name != "" {
			errs = append(errs, messages(at.Child("name"), p.Name, validation.IsValidPortName(p.Name))...)
			if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, portNumber(at.Child("containerPort"), p.ContainerPort)...)
		}
		if p.HostPort != 0 {
			errs = append(errs, portNumber(at.Child("hostPort"), p.HostPort)...)
		}
		errs = append(errs, oneOf(at.Child("protocol"), p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

func portNumber(at *field.Path, port int32) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsValidPortNum(int(port)) {
		errs = append(errs, field.Invalid(at, port, msg))
	}
	return errs
}

// validateHostPorts refuses a port of the host that is taken, and on the
// network of the host any that differs from the port of the container.
func validateHostPorts(at *field.Path, c *corev1.Container, taken map[string]bool, hostNetwork bool) field.ErrorList {
	var errs field.ErrorList
	for i, p := range c.Ports {
		at := at.Child("ports").Index(i).Child("hostPort")
		if hostNetwork && p.HostPort != p.ContainerPort {
			errs = append(errs, field.Invalid(at, p.HostPort, "must be the containerPort when hostNetwork is true"))
		}
		if p.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
		if taken[key] {
			errs = append(errs, field.Duplicate(at, key))
		}
		taken[key] = true
	}
	return errs
}

// validateResources checks the resources of a container against the claims
// on devices that its pod has.
func validateResources(at *field.Path, r *corev1.ResourceRequirements, claims []corev1.PodResourceClaim) field.ErrorList {
	var errs field.ErrorList
	compute, pages := false, false
	for _, list := range []struct {
		at      *field.Path
		amounts corev1.ResourceList
	}{{at.Child("limits"), r.Limits}, {at.Child("requests"), r.Requests}} {
		for name, quantity := range list.amounts {
			at := list.at.Key(string(name))
			errs = append(errs, amount.ValidateContainerName(at, name)...)
			errs = append(errs, amount.Validate(at, name, quantity)...)
			compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
			pages = pages || amount.HugePages(name)
		}
	}
	if pages && !compute {
		errs = append(errs, field.Forbidden(at, "huge pages need cpu or memory beside them"))
	}
	for name, request := range r.Requests {
		limit, limited := r.Limits[name]
		limits := at.Child("limits")
		switch at := at.Child("requests").Key(string(name)); {
		case !limited && !amount.Overcommit(name):
			errs = append(errs, field.Required(limits, "must limit "+string(name)+", which cannot be overcommitted"))
		case !limited:
		case !amount.Overcommit(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(at, request.String(), "must be the limit of "+limit.String()))
		case request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(at, request.String(), "must not be above the limit of "+limit.String()))
		}
	}
	for i, c := range r.Claims {
		at := at.Child("claims").Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		if !slices.ContainsFunc(claims, func(p corev1.PodResourceClaim) bool { return p.Name == c.Name }) {
			errs = append(errs, field.NotFound(at.Child("name"), c.Name))
		}
		if slices.Contains(r.Claims[:i], c) {
			errs = append(errs, field.Duplicate(at, c.Name))
		}
	}
	return errs
}

// validatePodResources checks resources that all containers share.
func validatePodResources(at *field.Path, r *corev1.ResourceRequirements) field.ErrorList {
	errs := validateResources(at, r, nil)
	for _, list := range []struct {
		at      *field.Path
		amounts corev1.ResourceList
	}{{at.Child("limits"), r.Limits}, {at.Child("requests"), r.Requests}} {
		for name := range list.amounts {
			if name != corev1.ResourceCPU && name != corev1.ResourceMemory && !amount.HugePages(name) {
				errs = append(errs, field.NotSupported(list.at.Key(string(name)), name,
					[]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceHugePagesPrefix}))
			}
		}
	}
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(at.Child("claims"), "belong to containers"))
	}
	return errs
}

func validateResizePolicy(at *field.Path, policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[corev1.ResourceName]bool, len(policies))
	for i, p := range policies {
		at := at.Index(i)
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(at, p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, oneOf(at.Child("resourceName"), p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, oneOf(at.Child("restartPolicy"), p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(at.Child("restartPolicy"), p.RestartPolicy, "must be NotRequired in a pod that never restarts"))
		}
	}
	return errs
}

// validateRestart checks when a single container is restarted.
func validateRestart(at *field.Path, c *corev1.Container) field.ErrorList {
	errs := oneOfPtr(at.Child("restartPolicy"), c.RestartPolicy,
		corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	rules := at.Child("restartPolicyRules")
	if c.RestartPolicy == nil && len(c.RestartPolicyRules) > 0 {
		errs = append(errs, field.Required(at.Child("restartPolicy"), "needed beside restartPolicyRules"))
	}
	if n := len(c.RestartPolicyRules); n > maxRestartRules {
		errs = append(errs, field.TooMany(rules, n, maxRestartRules))
	}
	for i, rule := range c.RestartPolicyRules {
		at := rules.Index(i)
		errs = append(errs, oneOf(at.Child("action"), rule.Action, corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), ""))
			continue
		}
		errs = append(errs, oneOf(at.Child("exitCodes", "operator"), rule.ExitCodes.Operator,
			corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if n := len(rule.ExitCodes.Values); n > maxExitCodes {
			errs = append(errs, field.TooMany(at.Child("exitCodes", "values"), n, maxExitCodes))
		}
	}
	return errs
}

// debugFields are all that an ephemeral container may set. The list is of
// what is allowed, so that a new field is refused until somebody thinks of it.
var debugFields = []string{
	"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY",
}

// validateDebugging holds ephemeral containers to looking: nothing may come
// to rely on them.
func validateDebugging(at *field.Path, c *corev1.EphemeralContainerCommon) field.ErrorList {
	const msg = "cannot be set for an ephemeral container"
	var errs field.ErrorList
	value := reflect.ValueOf(*c)
	for i := range value.NumField() {
		f := value.Type().Field(i)
		if !value.Field(i).IsZero() && !slices.Contains(debugFields, f.Name) {
			errs = append(errs, field.Forbidden(at.Child(jsonName(f)), msg))
		}
	}
	for i, m := range c.VolumeMounts {
		if m.SubPath != "" {
			errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(i).Child("subPath"), msg))
		}
		if m.SubPathExpr != "" {
			errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(i).Child("subPathExpr"), msg))
		}
	}
	return errs
}
