package issuer

import (
	"encoding/json"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
)

// Paths of the documents under an issuer's URL.
const (
	// DiscoveryPath is fixed by OpenID Connect Discovery 1.0 §4.
	DiscoveryPath = "/.well-known/openid-configuration"
	// KeySetPath is where Kubernetes serves its key set.
	KeySetPath = "/openid/v1/jwks"
)

// MaxAgeSeconds is for how long others may keep the documents. A new key is
// published at least this long before it signs.
const MaxAgeSeconds = 3600

// Media types of the documents.
const (
	DiscoveryType = "application/json"
	KeySetType    = "application/jwk-set+json"
)

// Documents are what others need to verify tokens, ready to be sent. They must
// not be modified.
type Documents struct {
	Discovery []byte
	KeySet    []byte
}

// Documents returns the documents of the keys in force. They are made when
// keys change, not per request.
func (i *Issuer) Documents() (Documents, error) {
	s := i.current.Load()
	if s == nil {
		return Documents{}, errNoKeys
	}
	return s.documents, nil
}

func (i *Issuer) render(published []*jws.Key) (Documents, error) {
	// The members that OpenID Connect Discovery 1.0 §3 requires and that mean
	// something for an issuer without a login.
	discovery, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		KeySetURL     string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{i.url, i.keySetURL, []string{"id_token"}, []string{"public"}, []string{string(jws.ES256)}})
	if err != nil {
		return Documents{}, fmt.Errorf("discovery document: %w", err)
	}
	keySet, err := jws.MarshalKeySet(published)
	if err != nil {
		return Documents{}, err
	}
	return Documents{Discovery: discovery, KeySet: keySet}, nil
}
