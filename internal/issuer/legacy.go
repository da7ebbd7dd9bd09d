package issuer

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// MintLegacy makes the token of a Secret that somebody explicitly annotated
// for it (authn.LegacySecretType). It never expires and ends with the Secret.
// signing must be a key for nothing else.
func MintLegacy(_ context.Context, signing crypto.Signer, namespace string, account Ref, secretName string) (secret.String, error) {
	if namespace == "" || account.Name == "" || account.UID == "" || secretName == "" {
		return secret.String{}, errors.New("mint legacy token: the account or the secret is incomplete")
	}
	id, err := jws.KeyID(signing.Public())
	if err != nil {
		return secret.String{}, fmt.Errorf("mint legacy token: %w", err)
	}
	signer, err := jws.NewSigner(id, signing)
	if err != nil {
		return secret.String{}, fmt.Errorf("mint legacy token: %w", err)
	}
	raw, err := json.Marshal(struct {
		Issuer     string `json:"iss"`
		Namespace  string `json:"kubernetes.io/serviceaccount/namespace"`
		Secret     string `json:"kubernetes.io/serviceaccount/secret.name"`
		Account    string `json:"kubernetes.io/serviceaccount/service-account.name"`
		AccountUID string `json:"kubernetes.io/serviceaccount/service-account.uid"`
		Subject    string `json:"sub"`
	}{authn.LegacyIssuer, namespace, secretName, account.Name, account.UID, "system:serviceaccount:" + namespace + ":" + account.Name})
	if err != nil {
		return secret.String{}, fmt.Errorf("mint legacy token: %w", err)
	}
	text, err := signer.Sign(raw)
	if err != nil {
		return secret.String{}, fmt.Errorf("mint legacy token: %w", err)
	}
	return secret.NewString(text), nil
}
