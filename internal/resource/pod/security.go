package pod

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxSysctl          = 253
	maxAppArmorProfile = 4095
)

var sysctl = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9]$`)

// validateSecurity checks the security context of the pod, and the namespaces
// of the host that the pod uses.
func validateSecurity(spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	at := specPath.Child("securityContext")
	if isTrue(spec.ShareProcessNamespace) && spec.HostPID {
		errs = append(errs, field.Invalid(specPath.Child("shareProcessNamespace"), true, "cannot be set together with hostPID"))
	}
	if spec.HostUsers != nil && !*spec.HostUsers {
		const msg = "cannot be set when hostUsers is false"
		if spec.HostNetwork {
			errs = append(errs, field.Forbidden(specPath.Child("hostNetwork"), msg))
		}
		if spec.HostPID {
			errs = append(errs, field.Forbidden(specPath.Child("hostPID"), msg))
		}
		if spec.HostIPC {
			errs = append(errs, field.Forbidden(specPath.Child("hostIPC"), msg))
		}
		eachContainer(spec, func(c *corev1.Container, at *field.Path) {
			if len(c.VolumeDevices) > 0 {
				errs = append(errs, field.Forbidden(at.Child("volumeDevices"), msg))
			}
		})
	}
	sc := spec.SecurityContext
	if sc == nil {
		return errs
	}
	errs = append(errs, id(at.Child("fsGroup"), sc.FSGroup, validation.IsValidGroupID)...)
	errs = append(errs, id(at.Child("runAsUser"), sc.RunAsUser, validation.IsValidUserID)...)
	errs = append(errs, id(at.Child("runAsGroup"), sc.RunAsGroup, validation.IsValidGroupID)...)
	for i := range sc.SupplementalGroups {
		errs = append(errs, id(at.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i], validation.IsValidGroupID)...)
	}
	errs = append(errs, oneOfPtr(at.Child("fsGroupChangePolicy"), sc.FSGroupChangePolicy,
		corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	errs = append(errs, oneOfPtr(at.Child("supplementalGroupsPolicy"), sc.SupplementalGroupsPolicy,
		corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	errs = append(errs, oneOfPtr(at.Child("seLinuxChangePolicy"), sc.SELinuxChangePolicy,
		corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	errs = append(errs, validateSeccomp(at.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, validateAppArmor(at.Child("appArmorProfile"), sc.AppArmorProfile)...)
	errs = append(errs, validateSysctls(at.Child("sysctls"), spec)...)
	return append(errs, validateWindows(at.Child("windowsOptions"), sc.WindowsOptions, spec)...)
}

func validateSysctls(at *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range spec.SecurityContext.Sysctls {
		at := at.Index(i).Child("name")
		// Both separators mean the same; the kernel's own is the slash.
		name := s.Name
		if slash := strings.IndexAny(name, "./"); slash >= 0 && name[slash] == '/' {
			name = strings.NewReplacer("/", ".", ".", "/").Replace(name)
		}
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
			continue
		case len(s.Name) > maxSysctl || !sysctl.MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, "must be the name of a kernel parameter, at most 253 characters"))
		case seen[name]:
			errs = append(errs, field.Duplicate(at, s.Name))
		}
		seen[name] = true
		if spec.HostNetwork && strings.HasPrefix(name, "net.") {
			errs = append(errs, field.Invalid(at, s.Name, "cannot be set when hostNetwork is true"))
		}
		if spec.HostIPC && ofIPC(name) {
			errs = append(errs, field.Invalid(at, s.Name, "cannot be set when hostIPC is true"))
		}
	}
	return errs
}

func ofIPC(name string) bool {
	switch {
	case name == "kernel.sem", name == "kernel.shmall", name == "kernel.shmmax", name == "kernel.shmmni", name == "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "fs.mqueue.")
}

func validateContainerSecurity(at *field.Path, sc *corev1.SecurityContext, spec *corev1.PodSpec) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := id(at.Child("runAsUser"), sc.RunAsUser, validation.IsValidUserID)
	errs = append(errs, id(at.Child("runAsGroup"), sc.RunAsGroup, validation.IsValidGroupID)...)
	errs = append(errs, oneOfPtr(at.Child("procMount"), sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
	hostUsers := spec.HostUsers == nil || *spec.HostUsers
	if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount && hostUsers {
		errs = append(errs, field.Invalid(at.Child("procMount"), *sc.ProcMount, "needs hostUsers to be false"))
	}
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		const msg = "cannot be false"
		at := at.Child("allowPrivilegeEscalation")
		if isTrue(sc.Privileged) {
			errs = append(errs, field.Invalid(at, false, msg+" for a privileged container"))
		}
		if sc.Capabilities != nil {
			for _, c := range sc.Capabilities.Add {
				if c == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(at, false, msg+" for a container with CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, validateSeccomp(at.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, validateAppArmor(at.Child("appArmorProfile"), sc.AppArmorProfile)...)
	return append(errs, validateWindows(at.Child("windowsOptions"), sc.WindowsOptions, spec)...)
}

func validateSeccomp(at *field.Path, p *corev1.SeccompProfile) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(at.Child("type"), p.Type,
		corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	at = at.Child("localhostProfile")
	switch local := p.Type == corev1.SeccompProfileTypeLocalhost; {
	case local && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(at, "needed for type Localhost"))
	case local:
		errs = append(errs, descending(at, *p.LocalhostProfile)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(at, *p.LocalhostProfile, "can only be set for type Localhost"))
	}
	return errs
}

func validateAppArmor(at *field.Path, p *corev1.AppArmorProfile) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(at.Child("type"), p.Type,
		corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	at = at.Child("localhostProfile")
	switch local := p.Type == corev1.AppArmorProfileTypeLocalhost; {
	case local && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(at, "needed for type Localhost"))
	case local && *p.LocalhostProfile != strings.TrimSpace(*p.LocalhostProfile):
		errs = append(errs, field.Invalid(at, *p.LocalhostProfile, "must not be padded with whitespace"))
	case local && *p.LocalhostProfile == "":
		errs = append(errs, field.Required(at, "needed for type Localhost"))
	case local && len(*p.LocalhostProfile) > maxAppArmorProfile:
		errs = append(errs, field.TooLong(at, "", maxAppArmorProfile))
	case !local && p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(at, *p.LocalhostProfile, "can only be set for type Localhost"))
	}
	return errs
}

// validateWindows checks that host processes use the network of the host, as
// they cannot do otherwise.
func validateWindows(at *field.Path, w *corev1.WindowsSecurityContextOptions, spec *corev1.PodSpec) field.ErrorList {
	if w == nil {
		return nil
	}
	var errs field.ErrorList
	if spec.OS != nil && spec.OS.Name == corev1.Linux {
		errs = append(errs, field.Forbidden(at, "cannot be set for a Linux pod"))
	}
	if isTrue(w.HostProcess) && !spec.HostNetwork {
		errs = append(errs, field.Invalid(specPath.Child("hostNetwork"), false, "must be true for host processes"))
	}
	if n := w.GMSACredentialSpecName; n != nil {
		errs = append(errs, named(at.Child("gmsaCredentialSpecName"), *n, validation.IsDNS1123Subdomain)...)
	}
	if u := w.RunAsUserName; u != nil && (*u == "" || strings.ContainsFunc(*u, func(r rune) bool { return r < ' ' || r == 0x7f })) {
		errs = append(errs, field.Invalid(at.Child("runAsUserName"), *u, "must not be empty or contain control characters"))
	}
	return errs
}
