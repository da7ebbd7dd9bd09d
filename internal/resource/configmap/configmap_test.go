package configmap

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/datakey"
)

func TestSizeCountsBothMaps(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("x", datakey.MaxSize/2)
	cm := &corev1.ConfigMap{Data: map[string]string{"a": half}, BinaryData: map[string][]byte{"b": []byte(half)}}
	if errs := validate(cm); len(errs) > 0 {
		t.Errorf("at the limit: %v", errs)
	}
	cm.Data["c"] = "x"
	if errs := validate(cm); len(errs) != 1 || errs[0].Type != field.ErrorTypeTooLong {
		t.Errorf("above the limit: %v", errs)
	}
}
