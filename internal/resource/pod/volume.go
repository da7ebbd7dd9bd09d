package pod

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes returns the volumes by name, for those who refer to them.
func validateVolumes(p *corev1.Pod) (map[string]*corev1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	volumes := make(map[string]*corev1.VolumeSource, len(p.Spec.Volumes))
	created := map[string]bool{} // claims that ephemeral volumes make
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Ephemeral != nil && p.Name != "" {
			created[p.Name+"-"+v.Name] = true
		}
	}
	for i := range p.Spec.Volumes {
		v, at := &p.Spec.Volumes[i], specPath.Child("volumes").Index(i)
		errs = append(errs, named(at.Child("name"), v.Name, validation.IsDNS1123Label)...)
		if volumes[v.Name] != nil {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		volumes[v.Name] = &v.VolumeSource
		errs = append(errs, validateSource(at, &v.VolumeSource)...)
		if v.Ephemeral != nil && p.Name != "" && v.Name != "" {
			claim := p.Name + "-" + v.Name
			errs = append(errs, messages(at.Child("name"), claim, apivalidation.NameIsDNSSubdomain(claim, false))...)
		}
		if c := v.PersistentVolumeClaim; c != nil && created[c.ClaimName] {
			errs = append(errs, field.Invalid(at.Child("persistentVolumeClaim", "claimName"), c.ClaimName,
				"must not be the claim of an ephemeral volume"))
		}
	}
	return volumes, errs
}

// validateSource asks for exactly one source, and checks the kinds that a
// control plane has to understand. Sources of storage systems are left to
// them, apart from what all of them need.
func validateSource(at *field.Path, v *corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	sources := 0
	value := reflect.ValueOf(*v)
	for i := range value.NumField() {
		if value.Field(i).IsNil() {
			continue
		}
		if sources++; sources > 1 {
			errs = append(errs, field.Forbidden(at.Child(jsonName(value.Type().Field(i))), "a volume has only one source"))
		}
	}
	if sources == 0 {
		return field.ErrorList{field.Required(at, "must have a source")}
	}

	if s := v.EmptyDir; s != nil && s.SizeLimit != nil && s.SizeLimit.Sign() < 0 {
		errs = append(errs, field.Forbidden(at.Child("emptyDir", "sizeLimit"), "must not be negative"))
	}
	if s := v.HostPath; s != nil {
		errs = append(errs, validateHostPath(at.Child("hostPath"), s)...)
	}
	if s := v.Secret; s != nil {
		at := at.Child("secret")
		errs = append(errs, requireText(at.Child("secretName"), s.SecretName)...)
		errs = append(errs, fileMode(at.Child("defaultMode"), s.DefaultMode)...)
		errs = append(errs, validateItems(at.Child("items"), s.Items)...)
	}
	if s := v.ConfigMap; s != nil {
		at := at.Child("configMap")
		errs = append(errs, requireText(at.Child("name"), s.Name)...)
		errs = append(errs, fileMode(at.Child("defaultMode"), s.DefaultMode)...)
		errs = append(errs, validateItems(at.Child("items"), s.Items)...)
	}
	if s := v.DownwardAPI; s != nil {
		at := at.Child("downwardAPI")
		errs = append(errs, fileMode(at.Child("defaultMode"), s.DefaultMode)...)
		errs = append(errs, validateDownward(at.Child("items"), s.Items)...)
	}
	if s := v.Projected; s != nil {
		errs = append(errs, validateProjected(at.Child("projected"), s)...)
	}
	if s := v.PersistentVolumeClaim; s != nil {
		errs = append(errs, requireText(at.Child("persistentVolumeClaim", "claimName"), s.ClaimName)...)
	}
	if s := v.NFS; s != nil {
		at := at.Child("nfs")
		errs = append(errs, requireText(at.Child("server"), s.Server)...)
		if !path.IsAbs(s.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be absolute"))
		}
	}
	if s := v.CSI; s != nil {
		at := at.Child("csi")
		errs = append(errs, validateDriver(at.Child("driver"), s.Driver)...)
		if ref := s.NodePublishSecretRef; ref != nil {
			errs = append(errs, named(at.Child("nodePublishSecretRef", "name"), ref.Name, asName(apivalidation.NameIsDNSSubdomain))...)
		}
	}
	if s := v.Ephemeral; s != nil {
		errs = append(errs, validateEphemeralVolume(at.Child("ephemeral"), s)...)
	}
	if s := v.Image; s != nil {
		at := at.Child("image")
		errs = append(errs, requireText(at.Child("reference"), s.Reference)...)
		errs = append(errs, oneOf(at.Child("pullPolicy"), s.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	}
	if s := v.GitRepo; s != nil {
		at := at.Child("gitRepo")
		errs = append(errs, requireText(at.Child("repository"), s.Repository)...)
		errs = append(errs, descending(at.Child("directory"), s.Directory)...)
	}
	return append(errs, validateStorage(at, v)...)
}

// validateStorage asks for the names without which a storage system cannot
// find a volume.
func validateStorage(at *field.Path, v *corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	require := func(kind, name, value string) {
		errs = append(errs, requireText(at.Child(kind, name), value)...)
	}
	if s := v.ISCSI; s != nil {
		require("iscsi", "targetPortal", s.TargetPortal)
		require("iscsi", "iqn", s.IQN)
		if s.Lun < 0 || s.Lun > 255 {
			errs = append(errs, field.Invalid(at.Child("iscsi", "lun"), s.Lun, validation.InclusiveRangeError(0, 255)))
		}
		if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
			errs = append(errs, field.Required(at.Child("iscsi", "secretRef"), ""))
		}
	}
	if s := v.RBD; s != nil {
		if len(s.CephMonitors) == 0 {
			errs = append(errs, field.Required(at.Child("rbd", "monitors"), ""))
		}
		require("rbd", "image", s.RBDImage)
	}
	if s := v.CephFS; s != nil && len(s.Monitors) == 0 {
		errs = append(errs, field.Required(at.Child("cephfs", "monitors"), ""))
	}
	if s := v.Glusterfs; s != nil {
		require("glusterfs", "endpoints", s.EndpointsName)
		require("glusterfs", "path", s.Path)
	}
	if s := v.Cinder; s != nil {
		require("cinder", "volumeID", s.VolumeID)
	}
	if s := v.FlexVolume; s != nil {
		require("flexVolume", "driver", s.Driver)
	}
	if s := v.AWSElasticBlockStore; s != nil {
		require("awsElasticBlockStore", "volumeID", s.VolumeID)
	}
	if s := v.GCEPersistentDisk; s != nil {
		require("gcePersistentDisk", "pdName", s.PDName)
	}
	if s := v.AzureFile; s != nil {
		require("azureFile", "secretName", s.SecretName)
		require("azureFile", "shareName", s.ShareName)
	}
	if s := v.AzureDisk; s != nil {
		require("azureDisk", "diskName", s.DiskName)
		require("azureDisk", "diskURI", s.DataDiskURI)
	}
	if s := v.VsphereVolume; s != nil {
		require("vsphereVolume", "volumePath", s.VolumePath)
	}
	if s := v.PortworxVolume; s != nil {
		require("portworxVolume", "volumeID", s.VolumeID)
	}
	if s := v.FC; s != nil && (len(s.TargetWWNs) == 0) == (len(s.WWIDs) == 0) {
		errs = append(errs, field.Required(at.Child("fc"), "must have either targetWWNs or wwids"))
	}
	return errs
}

func requireText(at *field.Path, value string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func validateHostPath(at *field.Path, s *corev1.HostPathVolumeSource) field.ErrorList {
	errs := requireText(at.Child("path"), s.Path)
	errs = append(errs, noBacksteps(at.Child("path"), s.Path)...)
	if s.Type != nil && *s.Type != corev1.HostPathUnset {
		errs = append(errs, oneOf(at.Child("type"), *s.Type, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
			corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)...)
	}
	return errs
}

// maxDriver bounds the names of storage drivers (CSI specification,
// GetPluginInfo).
const maxDriver = 63

func validateDriver(at *field.Path, name string) field.ErrorList {
	if len(name) > maxDriver {
		return field.ErrorList{field.TooLong(at, "", maxDriver)}
	}
	return named(at, strings.ToLower(name), validation.IsDNS1123Subdomain)
}

func validateEphemeralVolume(at *field.Path, s *corev1.EphemeralVolumeSource) field.ErrorList {
	at = at.Child("volumeClaimTemplate")
	if s.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	spec, at := &s.VolumeClaimTemplate.Spec, at.Child("spec")
	var errs field.ErrorList
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), ""))
	}
	for i, mode := range spec.AccessModes {
		errs = append(errs, oneOf(at.Child("accessModes").Index(i), mode, corev1.ReadOnlyMany, corev1.ReadWriteMany,
			corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
	}
	storage, ok := spec.Resources.Requests[corev1.ResourceStorage]
	switch at := at.Child("resources", "requests").Key(string(corev1.ResourceStorage)); {
	case !ok:
		errs = append(errs, field.Required(at, ""))
	case storage.Sign() <= 0:
		errs = append(errs, field.Invalid(at, storage.String(), "must be greater than 0"))
	}
	return append(errs, oneOfPtr(at.Child("volumeMode"), spec.VolumeMode,
		corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
}

func validateMounts(at *field.Path, c *corev1.Container, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[string]bool, len(c.VolumeMounts))
	for i, m := range c.VolumeMounts {
		at := at.Child("volumeMounts").Index(i)
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case volumes[m.Name] == nil:
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		errs = append(errs, requireText(at.Child("mountPath"), m.MountPath)...)
		if seen[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		seen[m.MountPath] = true
		if m.SubPath != "" && m.SubPathExpr != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "cannot be set together with subPath"))
		}
		errs = append(errs, descending(at.Child("subPath"), m.SubPath)...)
		errs = append(errs, descending(at.Child("subPathExpr"), m.SubPathExpr)...)
		errs = append(errs, validatePropagation(at, &m, c)...)
	}
	return errs
}

func validatePropagation(at *field.Path, m *corev1.VolumeMount, c *corev1.Container) field.ErrorList {
	errs := oneOfPtr(at.Child("mountPropagation"), m.MountPropagation,
		corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	privileged := c.SecurityContext != nil && isTrue(c.SecurityContext.Privileged)
	if m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
		errs = append(errs, field.Forbidden(at.Child("mountPropagation"), "Bidirectional is for privileged containers"))
	}
	recursive := m.RecursiveReadOnly
	errs = append(errs, oneOfPtr(at.Child("recursiveReadOnly"), recursive,
		corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)...)
	if recursive == nil || *recursive == corev1.RecursiveReadOnlyDisabled {
		return errs
	}
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(at.Child("recursiveReadOnly"), "needs readOnly"))
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(at.Child("recursiveReadOnly"), "cannot be set together with mountPropagation"))
	}
	return errs
}

// validateDevices checks volumes that are used as raw devices.
func validateDevices(at *field.Path, c *corev1.Container, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	names, paths := map[string]bool{}, map[string]bool{}
	for _, m := range c.VolumeMounts {
		names[m.Name], paths[m.MountPath] = true, true
	}
	for i, d := range c.VolumeDevices {
		at := at.Child("volumeDevices").Index(i)
		v := volumes[d.Name]
		switch {
		case d.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case v == nil:
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		case v.PersistentVolumeClaim == nil && v.Ephemeral == nil:
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must be a persistentVolumeClaim or an ephemeral volume"))
		case names[d.Name]:
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "is in use already"))
		}
		errs = append(errs, requireText(at.Child("devicePath"), d.DevicePath)...)
		errs = append(errs, noBacksteps(at.Child("devicePath"), d.DevicePath)...)
		if paths[d.DevicePath] {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "is in use already"))
		}
		names[d.Name], paths[d.DevicePath] = true, true
	}
	return errs
}
