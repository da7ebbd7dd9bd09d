package secret

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/datakey"
)

func TestSize(t *testing.T) {
	t.Parallel()
	s := &corev1.Secret{Data: map[string][]byte{"a": bytes.Repeat([]byte("x"), datakey.MaxSize)}}
	if errs := validate(s); len(errs) > 0 {
		t.Errorf("at the limit: %v", errs)
	}
	s.Data["b"] = []byte("x")
	if errs := validate(s); len(errs) != 1 || errs[0].Type != field.ErrorTypeTooLong {
		t.Errorf("above the limit: %v", errs)
	}
}

// TestErrorsKeepTheSecret looks for values in what the caller, and with it
// logs and audit, get to see.
func TestErrorsKeepTheSecret(t *testing.T) {
	t.Parallel()
	const value = "hunter2"
	immutable := true
	old := &corev1.Secret{Immutable: &immutable, Type: "example.com/own", Data: map[string][]byte{"a": []byte(value)}}
	for _, kind := range []corev1.SecretType{
		corev1.SecretTypeDockercfg, corev1.SecretTypeDockerConfigJson, corev1.SecretTypeBasicAuth,
		corev1.SecretTypeSSHAuth, corev1.SecretTypeTLS, corev1.SecretTypeServiceAccountToken,
	} {
		s := &corev1.Secret{Type: kind, Data: map[string][]byte{
			"a/b": []byte(value), corev1.DockerConfigKey: []byte(value), corev1.DockerConfigJsonKey: []byte(value),
		}}
		errs := validateUpdate(s, old)
		if len(errs) < 3 {
			t.Errorf("%s: only %v", kind, errs)
		}
		for _, err := range errs {
			if strings.Contains(err.Error(), value) {
				t.Errorf("%s: an error tells the secret: %v", kind, err)
			}
		}
	}
}
