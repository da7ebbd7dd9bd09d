package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// LeafKey is a new ECDSA P-256 key for a certificate of which we also make the
// key: our listeners, admin.kubeconfig, the files of a connected site.
type LeafKey struct{ private func() *ecdsa.PrivateKey }

// NewLeafKey generates a key.
func NewLeafKey() (LeafKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return LeafKey{}, fmt.Errorf("generate key: %w", err)
	}
	return LeafKey{private: func() *ecdsa.PrivateKey { return private }}, nil
}

// Public returns the public key.
func (k LeafKey) Public() crypto.PublicKey { return k.private().Public() }

// PEM returns the private key as a PKCS #8 PEM block, for the one file of its
// owner.
func (k LeafKey) PEM() (secret.Bytes, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private())
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("encode key: %w", err)
	}
	return secret.NewBytes(encodePEM("PRIVATE KEY", der)), nil
}
