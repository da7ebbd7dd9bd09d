package serviceaccount

import (
	"context"
	"errors"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder", Namespace: "payments", UID: "1"}}
}

func seconds(s int64) *int64 { return &s }

func TestTokenRequestIsCheckedAndCompleted(t *testing.T) {
	t.Parallel()
	var issued *authenticationv1.TokenRequest
	action := New(func(_ context.Context, caller resource.Caller, sa *corev1.ServiceAccount, request *authenticationv1.TokenRequest, dryRun bool) error {
		if caller.Name != "jane" || sa.Name != "builder" || !dryRun {
			t.Errorf("issue for %s to %s, dry run %t", sa.Name, caller.Name, dryRun)
		}
		issued = request.DeepCopy()
		request.Status.Token = "t"
		return nil
	}).(*resource.Stored).Actions[0]

	in := &authenticationv1.TokenRequest{
		Spec:   authenticationv1.TokenRequestSpec{Audiences: []string{"a"}},
		Status: authenticationv1.TokenRequestStatus{Token: "mine"},
	}
	out, err := action.Do(t.Context(), resource.Caller{Name: "jane"}, account(), in, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.(*authenticationv1.TokenRequest).Status.Token; got != "t" {
		t.Errorf("token %q", got)
	}
	if issued.Name != "builder" || issued.Namespace != "payments" || issued.UID != "1" || *issued.Spec.ExpirationSeconds != 3600 || issued.Status.Token != "" {
		t.Errorf("issued for %+v", issued)
	}
}

func TestBadTokenRequestsReachNoIssuer(t *testing.T) {
	t.Parallel()
	action := New(func(context.Context, resource.Caller, *corev1.ServiceAccount, *authenticationv1.TokenRequest, bool) error {
		t.Error("the issuer was asked")
		return nil
	}).(*resource.Stored).Actions[0]
	for name, c := range map[string]struct {
		request authenticationv1.TokenRequest
		is      func(error) bool
	}{
		"other name":      {authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, apierrors.IsInvalid},
		"other namespace": {authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "other"}}, apierrors.IsInvalid},
		"other uid":       {authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{UID: "2"}}, apierrors.IsConflict},
		"too short":       {authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(599)}}, apierrors.IsInvalid},
		"too long":        {authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(1<<32 + 1)}}, apierrors.IsInvalid},
		"bound to a config map": {authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x"},
		}}, apierrors.IsBadRequest},
		"bound to a pod of another group": {authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "example.com/v1", Kind: "Pod", Name: "x"},
		}}, apierrors.IsBadRequest},
	} {
		if _, err := action.Do(t.Context(), resource.Caller{}, account(), &c.request, false); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusalOfTheIssuerIsPassedOn(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	action := New(func(context.Context, resource.Caller, *corev1.ServiceAccount, *authenticationv1.TokenRequest, bool) error {
		return refusal
	}).(*resource.Stored).Actions[0]
	for _, kind := range []string{"Pod", "Secret", "Node"} {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: seconds(600),
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: "x"},
		}}
		if out, err := action.Do(t.Context(), resource.Caller{}, account(), request, false); !errors.Is(err, refusal) || out != nil {
			t.Errorf("bound to a %s: %v, %v", kind, out, err)
		}
	}
}
