package identityprovider

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	api "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
)

// Authenticator turns the resource's form of a JWT authenticator into that of
// an AuthenticationConfiguration. Their fields have the same names and
// meanings, so that JSON is the way from one to the other.
func Authenticator(in *api.JWTAuthenticator) (apiserver.JWTAuthenticator, error) {
	var out apiserver.AuthenticationConfiguration
	if err := convert(in, &out); err != nil {
		return apiserver.JWTAuthenticator{}, fmt.Errorf("jwt authenticator: %w", err)
	}
	return out.JWT[0], nil
}

func convert(in *api.JWTAuthenticator, out *apiserver.AuthenticationConfiguration) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	versioned := &apiserverv1.AuthenticationConfiguration{JWT: make([]apiserverv1.JWTAuthenticator, 1)}
	if err := json.Unmarshal(data, &versioned.JWT[0]); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	scheme.Default(versioned)
	return scheme.Convert(versioned, out, nil)
}

// Validate finds what kube-apiserver would find wrong with a JWT authenticator,
// expressions included. disallowed are issuers that nobody else may speak for.
func Validate(path *field.Path, in *api.JWTAuthenticator, disallowed []string) field.ErrorList {
	var out apiserver.AuthenticationConfiguration
	if err := convert(in, &out); err != nil {
		return field.ErrorList{field.InternalError(path, err)}
	}
	errs := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), &out, disallowed)
	for _, err := range errs {
		err.Field = path.String() + strings.TrimPrefix(err.Field, "jwt[0]")
	}
	return errs
}
