package all

import (
	"context"
	"errors"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	identityv1alpha1 "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/impactreview"
)

// questions holds one good and one bad question of every review that asks
// somebody else.
var questions = map[string]struct{ good, bad runtime.Object }{
	"TokenReview": {
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "t"}},
		&authenticationv1.TokenReview{},
	},
	"SubjectAccessReview": {
		&authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "joe", ResourceAttributes: &authorizationv1.ResourceAttributes{}}},
		&authorizationv1.SubjectAccessReview{},
	},
	"LocalSubjectAccessReview": {
		&authorizationv1.LocalSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Namespace: "payments"},
			Spec:       authorizationv1.SubjectAccessReviewSpec{User: "joe", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "payments"}},
		},
		&authorizationv1.LocalSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Namespace: "payments"},
			Spec:       authorizationv1.SubjectAccessReviewSpec{User: "joe", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "other"}},
		},
	},
	"SelfSubjectAccessReview": {
		&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{}}},
		&authorizationv1.SelfSubjectAccessReview{},
	},
	"ProxyCertificate": {
		&identityv1alpha1.ProxyCertificate{Spec: identityv1alpha1.ProxyCertificateSpec{Request: []byte("x"), CommonName: "front"}},
		&identityv1alpha1.ProxyCertificate{},
	},
	"TokenKeyRotation": {
		&identityv1alpha1.TokenKeyRotation{Spec: identityv1alpha1.TokenKeyRotationSpec{Use: identityv1alpha1.UseTokens}},
		&identityv1alpha1.TokenKeyRotation{Spec: identityv1alpha1.TokenKeyRotationSpec{Use: "Jobs"}},
	},
	"AccessReview": {
		&accessv1alpha1.AccessReview{Spec: accessv1alpha1.AccessReviewSpec{Questions: []accessv1alpha1.Question{{ResourceAttributes: &authorizationv1.ResourceAttributes{}}}}},
		&accessv1alpha1.AccessReview{Spec: accessv1alpha1.AccessReviewSpec{Questions: make([]accessv1alpha1.Question, 10_001)}},
	},
	"WhoCanReview": {
		&accessv1alpha1.WhoCanReview{Spec: accessv1alpha1.Question{ResourceAttributes: &authorizationv1.ResourceAttributes{}}},
		&accessv1alpha1.WhoCanReview{},
	},
	"ExplainReview": {
		&accessv1alpha1.ExplainReview{Spec: accessv1alpha1.ExplainReviewSpec{Question: accessv1alpha1.Question{ResourceAttributes: &authorizationv1.ResourceAttributes{}}}},
		&accessv1alpha1.ExplainReview{},
	},
	"WhatCanReview": {
		&accessv1alpha1.WhatCanReview{Spec: accessv1alpha1.WhatCanReviewSpec{Namespace: "payments"}},
		&accessv1alpha1.WhatCanReview{Spec: accessv1alpha1.WhatCanReviewSpec{Subject: &accessv1alpha1.ReviewSubject{}}},
	},
	"ImpactReview": {
		&accessv1alpha1.ImpactReview{Spec: accessv1alpha1.ImpactReviewSpec{Delete: []runtime.RawExtension{{Raw: []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`)}}}},
		&accessv1alpha1.ImpactReview{Spec: accessv1alpha1.ImpactReviewSpec{Apply: []runtime.RawExtension{{Raw: []byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}`)}}}},
	},
	"SelfSubjectRulesReview": {
		&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "payments"}},
		&authorizationv1.SelfSubjectRulesReview{},
	},
}

// TestReviewsAskOnlyGoodQuestions checks that a bad question reaches nobody,
// and that an answer that could not be given is an error.
func TestReviewsAskOnlyGoodQuestions(t *testing.T) {
	t.Parallel()
	failure := errors.New("stale")
	asked := 0
	d := deps()
	d.ReviewToken = func(context.Context, resource.Caller, *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
		asked++
		return authenticationv1.TokenReviewStatus{Authenticated: true}, failure
	}
	d.Decide = func(context.Context, resource.Caller, *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
		asked++
		return authorizationv1.SubjectAccessReviewStatus{Allowed: true}, failure
	}
	d.ListRules = func(context.Context, resource.Caller, string) (authorizationv1.SubjectRulesReviewStatus, error) {
		asked++
		return authorizationv1.SubjectRulesReviewStatus{Incomplete: true}, failure
	}
	d.ReviewAccess = func(context.Context, resource.Caller, *accessv1alpha1.AccessReviewSpec) (accessv1alpha1.AccessReviewStatus, error) {
		asked++
		return accessv1alpha1.AccessReviewStatus{All: true}, failure
	}
	d.WhoCan = func(context.Context, resource.Caller, *accessv1alpha1.Question) (accessv1alpha1.WhoCanReviewStatus, error) {
		asked++
		return accessv1alpha1.WhoCanReviewStatus{Holders: make([]accessv1alpha1.Holder, 1)}, failure
	}
	d.Explain = func(context.Context, resource.Caller, *accessv1alpha1.ExplainReviewSpec) (accessv1alpha1.ExplainReviewStatus, error) {
		asked++
		return accessv1alpha1.ExplainReviewStatus{Nearest: make([]accessv1alpha1.NearRule, 1)}, failure
	}
	d.WhatCan = func(context.Context, resource.Caller, *accessv1alpha1.WhatCanReviewSpec) (accessv1alpha1.WhatCanReviewStatus, error) {
		asked++
		return accessv1alpha1.WhatCanReviewStatus{Entitlements: make([]accessv1alpha1.Entitlement, 1)}, failure
	}
	d.Impact = func(context.Context, resource.Caller, impactreview.Changes) (accessv1alpha1.ImpactReviewStatus, error) {
		asked++
		return accessv1alpha1.ImpactReviewStatus{Notes: make([]string, 1)}, failure
	}
	d.IssueProxyCertificate = func(context.Context, resource.Caller, *identityv1alpha1.ProxyCertificateSpec) (identityv1alpha1.ProxyCertificateStatus, error) {
		asked++
		return identityv1alpha1.ProxyCertificateStatus{CredentialID: "X509SHA256=1"}, failure
	}
	d.RotateTokenKeys = func(context.Context, resource.Caller, *identityv1alpha1.TokenKeyRotationSpec) (identityv1alpha1.TokenKeyRotationStatus, error) {
		asked++
		return identityv1alpha1.TokenKeyRotationStatus{KeyID: "next"}, failure
	}
	for _, k := range List(d) {
		review, ok := k.(*resource.Answered)
		if !ok || review.Names.Kind == "SelfSubjectReview" {
			continue
		}
		q, ok := questions[review.Names.Kind]
		if !ok {
			t.Errorf("no questions for %s", review.Names.Kind)
			continue
		}
		asked = 0
		if err := review.Answer(t.Context(), caller, q.bad.DeepCopyObject()); err == nil || errors.Is(err, failure) || asked != 0 {
			t.Errorf("%s: a bad question: %v, asked %d times", review.Names.Kind, err, asked)
		}
		good := q.good.DeepCopyObject()
		if err := review.Answer(t.Context(), caller, good); !errors.Is(err, failure) || asked != 1 {
			t.Errorf("%s: a good question: %v, asked %d times", review.Names.Kind, err, asked)
		}
		if !apiequality.Semantic.DeepEqual(good, q.good) {
			t.Errorf("%s gives an answer in spite of the error: %+v", review.Names.Kind, good)
		}
	}
}

// TestSelfReviewsAreAboutTheCaller attacks them: nothing in the request names
// somebody else.
func TestSelfReviewsAreAboutTheCaller(t *testing.T) {
	t.Parallel()
	d := deps()
	d.Decide = func(_ context.Context, c resource.Caller, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
		if spec.User != c.Name || spec.UID != c.UID || len(spec.Groups) != len(c.Groups) || spec.Extra["authentication.kubernetes.io/credential-id"][0] != "JTI=1" {
			t.Errorf("asked about %+v", spec)
		}
		return authorizationv1.SubjectAccessReviewStatus{}, nil
	}
	for _, k := range List(d) {
		if review, ok := k.(*resource.Answered); ok && review.Names.Kind == "SelfSubjectAccessReview" {
			sar := &authorizationv1.SelfSubjectAccessReview{
				Spec:   authorizationv1.SelfSubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/"}},
				Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true},
			}
			if err := review.Answer(t.Context(), caller, sar); err != nil || sar.Status.Allowed {
				t.Errorf("%v, %+v", err, sar.Status)
			}
		}
	}
}
