package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
)

// Bounds on a key set.
const (
	maxSetBytes = 256 << 10
	maxSetKeys  = 100
)

// jwk is the public part of a JSON Web Key (RFC 7517 §4, RFC 7518 §6) in the
// order in which we write it.
type jwk struct {
	Use       string `json:"use"`
	KeyType   string `json:"kty"`
	ID        string `json:"kid"`
	Curve     string `json:"crv,omitempty"`
	Algorithm string `json:"alg"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

// MarshalKeySet renders keys as a JSON Web Key set (RFC 7517 §5).
func MarshalKeySet(keys []*Key) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: make([]jwk, 0, len(keys))}
	for _, k := range keys {
		out := jwk{Use: "sig", ID: k.id, Algorithm: string(k.alg)}
		switch public := k.public.(type) {
		case *ecdsa.PublicKey:
			point, err := public.Bytes()
			if err != nil {
				return nil, fmt.Errorf("key set: %w", err)
			}
			half := (len(point) - 1) / 2
			out.KeyType, out.Curve = "EC", public.Curve.Params().Name
			out.X = base64.RawURLEncoding.EncodeToString(point[1 : 1+half])
			out.Y = base64.RawURLEncoding.EncodeToString(point[1+half:])
		case *rsa.PublicKey:
			out.KeyType = "RSA"
			out.N = base64.RawURLEncoding.EncodeToString(public.N.Bytes())
			out.E = base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes())
		case ed25519.PublicKey:
			out.KeyType, out.Curve = "OKP", "Ed25519"
			out.X = base64.RawURLEncoding.EncodeToString(public)
		}
		set.Keys = append(set.Keys, out)
	}
	return json.Marshal(set)
}

// ParseKeySet reads the keys of a JSON Web Key set that can verify signatures.
// Keys for encryption and keys of types we do not know are left out, as RFC
// 7517 §5 asks. A shared secret, a weak or malformed signing key, a private
// key or two keys with one id refuse the whole set: its owner has lost control
// of it.
func ParseKeySet(data []byte) ([]*Key, error) {
	if len(data) > maxSetBytes {
		return nil, errors.New("key set is too large")
	}
	v, err := strictjson.Parse(bytes.TrimSpace(data))
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	list := v.Get("keys")
	if list.Kind != strictjson.Array {
		return nil, errors.New(`key set: no array "keys"`)
	}
	if len(list.Items) > maxSetKeys {
		return nil, fmt.Errorf("key set: more than %d keys", maxSetKeys)
	}
	var keys []*Key
	ids := map[string]bool{}
	for i, item := range list.Items {
		key, err := parseKey(item)
		if err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i, err)
		}
		if key == nil {
			continue
		}
		if ids[key.id] {
			return nil, fmt.Errorf("key set: key %d: its id occurs twice", i)
		}
		ids[key.id] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// parseKey returns nil without an error for a key that is not for us.
func parseKey(v strictjson.Value) (*Key, error) {
	if v.Kind != strictjson.Object {
		return nil, errors.New("not an object")
	}
	for _, name := range []string{"kty", "use", "alg", "kid", "crv"} {
		if kind := v.Get(name).Kind; kind != strictjson.String && kind != strictjson.None {
			return nil, fmt.Errorf("%q is not a string", name)
		}
	}
	if use := v.Get("use"); use.Kind != strictjson.None && use.Text != "sig" {
		return nil, nil
	}
	if !mayVerify(v.Get("key_ops")) {
		return nil, nil
	}
	if v.Get("d").Kind != strictjson.None {
		return nil, errors.New("a private key is published")
	}
	var public crypto.PublicKey
	var err error
	switch v.Get("kty").Text {
	case "oct":
		return nil, errors.New("a shared secret is no verification key")
	case "EC":
		public, err = parseEC(v)
	case "RSA":
		public, err = parseRSA(v)
	case "OKP":
		public, err = parseOKP(v)
	default:
		return nil, nil
	}
	if err != nil || public == nil {
		return nil, err
	}
	alg := Algorithm(v.Get("alg").Text)
	if alg == "" {
		if alg, err = AlgorithmFor(public); err != nil {
			return nil, err
		}
	}
	id := v.Get("kid").Text
	if id == "" {
		if id, err = KeyID(public); err != nil {
			return nil, err
		}
	}
	return NewKey(id, alg, public)
}

// mayVerify reads key_ops (RFC 7517 §4.3), which restricts when it is there.
func mayVerify(ops strictjson.Value) bool {
	if ops.Kind == strictjson.None {
		return true
	}
	for _, op := range ops.Items {
		if op.Kind == strictjson.String && op.Text == "verify" {
			return true
		}
	}
	return false
}

func parseEC(v strictjson.Value) (crypto.PublicKey, error) {
	var curve elliptic.Curve
	switch v.Get("crv").Text {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	default:
		return nil, nil
	}
	x, y := v.Get("x"), v.Get("y")
	xs, errX := Decode(x.Text)
	ys, errY := Decode(y.Text)
	size := (curve.Params().BitSize + 7) / 8
	if errX != nil || errY != nil || len(xs) != size || len(ys) != size {
		return nil, errors.New("coordinates are malformed")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, xs...), ys...))
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	return public, nil
}

func parseRSA(v strictjson.Value) (crypto.PublicKey, error) {
	n, errN := Decode(v.Get("n").Text)
	e, errE := Decode(v.Get("e").Text)
	if errN != nil || errE != nil || len(n) == 0 || len(n) > maxRSABits/8+1 || len(e) == 0 || len(e) > 4 {
		return nil, errors.New("modulus or exponent is malformed")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

func parseOKP(v strictjson.Value) (crypto.PublicKey, error) {
	if v.Get("crv").Text != "Ed25519" {
		return nil, nil
	}
	x, err := Decode(v.Get("x").Text)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("coordinate is malformed")
	}
	return ed25519.PublicKey(x), nil
}
