package secret

import (
	"bytes"
	"encoding/json"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/datakey"
)

var dataPath = field.NewPath("data")

func validate(s *corev1.Secret) field.ErrorList {
	size, errs := datakey.Validate(dataPath, s.Data)
	if size > datakey.MaxSize {
		errs = append(errs, field.TooLong(dataPath, "", datakey.MaxSize))
	}
	return append(errs, validateType(s)...)
}

// validateType asks for the keys that each type promises.
func validateType(s *corev1.Secret) field.ErrorList {
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		// The rest is for the controller that fills the secret in.
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			return field.ErrorList{field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), "")}
		}
	case corev1.SecretTypeDockercfg:
		return requireJSON(s, corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		return requireJSON(s, corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		// One of the two may be missing.
		if has(s, corev1.BasicAuthUsernameKey) || has(s, corev1.BasicAuthPasswordKey) {
			return nil
		}
		return require(s, corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			return field.ErrorList{field.Required(dataPath.Key(corev1.SSHAuthPrivateKey), "")}
		}
	case corev1.SecretTypeTLS:
		return require(s, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return nil
}

func has(s *corev1.Secret, key string) bool {
	_, ok := s.Data[key]
	return ok
}

func require(s *corev1.Secret, keys ...string) field.ErrorList {
	var errs field.ErrorList
	for _, key := range keys {
		if !has(s, key) {
			errs = append(errs, field.Required(dataPath.Key(key), ""))
		}
	}
	return errs
}

func requireJSON(s *corev1.Secret, key string) field.ErrorList {
	if errs := require(s, key); errs != nil {
		return errs
	}
	// A syntax error would quote a character of the secret.
	if json.Unmarshal(s.Data[key], &map[string]any{}) != nil {
		return field.ErrorList{field.Invalid(dataPath.Key(key), "<redacted>", "must be a JSON object")}
	}
	return nil
}

func validateUpdate(s, old *corev1.Secret) field.ErrorList {
	errs := validate(s)
	errs = append(errs, apivalidation.ValidateImmutableField(s.Type, old.Type, field.NewPath("type"))...)
	if old.Immutable == nil || !*old.Immutable {
		return errs
	}
	const frozen = "cannot be changed once `immutable` is set"
	if s.Immutable == nil || !*s.Immutable {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), frozen))
	}
	if !maps.EqualFunc(s.Data, old.Data, bytes.Equal) {
		errs = append(errs, field.Forbidden(dataPath, frozen))
	}
	return errs
}
