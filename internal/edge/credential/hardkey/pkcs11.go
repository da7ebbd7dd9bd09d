//go:build cgo

package hardkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// tokenKey is a key in a PKCS#11 token.
type tokenKey struct {
	uri    pkcs11URI
	pin    secret.String
	module *pkcs11.Ctx
	public crypto.PublicKey

	mu      sync.Mutex // guards what follows: one session does one thing at a time
	session pkcs11.SessionHandle
	handle  pkcs11.ObjectHandle
	closed  bool
}

// Object identifiers of the curves, as CKA_EC_PARAMS has them (SEC 1, RFC 5480).
var curves = []struct {
	oid   asn1.ObjectIdentifier
	curve elliptic.Curve
}{
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, elliptic.P521()},
}

func openPKCS11(u pkcs11URI, pin secret.String) (Key, error) {
	k, err := load(u, pin)
	if err != nil {
		return nil, err
	}
	if err := k.open(false); err == nil {
		if err = k.find(); err == nil {
			err = k.readPublic()
		}
		if err == nil {
			return k, nil
		}
		_ = k.Close()
		return nil, err
	} else {
		_ = k.Close()
		return nil, err
	}
}

func createPKCS11(u pkcs11URI, pin secret.String) (Key, error) {
	k, err := load(u, pin)
	if err != nil {
		return nil, err
	}
	if err := k.open(true); err != nil {
		_ = k.Close()
		return nil, err
	}
	if err := k.generate(); err != nil {
		_ = k.Close()
		return nil, err
	}
	// From here on it is found by its name, as it will be next time.
	_ = k.Close()
	return openPKCS11(u, pin)
}

// load starts the module.
func load(u pkcs11URI, pin secret.String) (*tokenKey, error) {
	if err := checkModule(u.module); err != nil {
		return nil, err
	}
	module := pkcs11.New(u.module)
	if module == nil {
		return nil, fmt.Errorf("module: %s is no PKCS#11 module", u.module)
	}
	if err := module.Initialize(); err != nil {
		module.Destroy()
		return nil, fmt.Errorf("module: %w", err)
	}
	return &tokenKey{uri: u, pin: pin, module: module}, nil
}

// open logs in to the token that the URI names, of which there must be one.
func (k *tokenKey) open(write bool) error {
	slots, err := k.module.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := k.module.GetTokenInfo(slot)
		if err == nil && (k.uri.token == "" || info.Label == k.uri.token) && (k.uri.serial == "" || info.SerialNumber == k.uri.serial) {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("token: %d tokens are named so, one is needed", len(found))
	}
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if write {
		flags |= pkcs11.CKF_RW_SESSION
	}
	if k.session, err = k.module.OpenSession(found[0], flags); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	// A wrong PIN is not tried twice: tokens lock themselves.
	if err := k.module.Login(k.session, pkcs11.CKU_USER, k.pin.Reveal()); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return fmt.Errorf("token: log in: %w", err)
	}
	return nil
}

func (k *tokenKey) template(class uint) []*pkcs11.Attribute {
	t := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if k.uri.object != "" {
		t = append(t, pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.uri.object))
	}
	if len(k.uri.id) > 0 {
		t = append(t, pkcs11.NewAttribute(pkcs11.CKA_ID, k.uri.id))
	}
	return t
}

func (k *tokenKey) objects(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := k.module.FindObjectsInit(k.session, template); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	found, _, err := k.module.FindObjects(k.session, 2)
	if endErr := k.module.FindObjectsFinal(k.session); err == nil {
		err = endErr
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return found, nil
}

// find looks for the private key and holds it against what this package is for.
func (k *tokenKey) find() error {
	found, err := k.objects(k.template(pkcs11.CKO_PRIVATE_KEY))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("key: %d private keys are named so, one is needed", len(found))
	}
	k.handle = found[0]
	got, err := k.module.GetAttributeValue(k.session, k.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil),
	})
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if len(got) != 2 || !isTrue(got[0].Value) || isTrue(got[1].Value) {
		return errors.New("key: the token would hand this key out (it is extractable or not sensitive)")
	}
	return nil
}

func isTrue(value []byte) bool { return len(value) > 0 && value[0] != 0 }

// readPublic reads the public key that lies beside the private one.
func (k *tokenKey) readPublic() error {
	got, err := k.module.GetAttributeValue(k.session, k.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil), pkcs11.NewAttribute(pkcs11.CKA_ID, nil),
	})
	if err != nil || len(got) != 2 {
		return errors.New("key: the token does not say what kind it is")
	}
	template := k.template(pkcs11.CKO_PUBLIC_KEY)
	if len(got[1].Value) > 0 && len(k.uri.id) == 0 {
		// The id pairs the two halves; labels are only for people.
		template = []*pkcs11.Attribute{template[0], pkcs11.NewAttribute(pkcs11.CKA_ID, got[1].Value)}
	}
	found, err := k.objects(template)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("key: %d public keys belong to it, one is needed", len(found))
	}
	if bytes.Equal(got[0].Value, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA).Value) {
		return k.readRSA(found[0])
	}
	return k.readEC(found[0])
}

func (k *tokenKey) readEC(object pkcs11.ObjectHandle) error {
	got, err := k.module.GetAttributeValue(k.session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil),
	})
	if err != nil || len(got) != 2 {
		return errors.New("key: is neither RSA nor ECDSA")
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(got[0].Value, &oid); err != nil {
		return errors.New("key: its curve has no name")
	}
	point := got[1].Value
	var inner []byte // the standard wraps the point in an octet string; some tokens do not
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	for _, c := range curves {
		if c.oid.Equal(oid) {
			public, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
			if err != nil {
				return fmt.Errorf("key: %w", err)
			}
			k.public = public
			return nil
		}
	}
	return fmt.Errorf("key: curve %v is not P-256, P-384 or P-521", oid)
}

func (k *tokenKey) readRSA(object pkcs11.ObjectHandle) error {
	got, err := k.module.GetAttributeValue(k.session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil),
	})
	if err != nil || len(got) != 2 {
		return errors.New("key: the token does not show the public half")
	}
	exponent := new(big.Int).SetBytes(got[1].Value)
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(got[0].Value), E: int(exponent.Int64())}
	if public.N.BitLen() < 2048 || !exponent.IsInt64() || exponent.BitLen() > 31 {
		return errors.New("key: RSA below 2048 bits, or with an odd exponent, is not used")
	}
	k.public = public
	return nil
}

// generate makes the pair; the token keeps the private half for good.
func (k *tokenKey) generate() error {
	if k.uri.object == "" {
		return errors.New("key: object is required for a new key")
	}
	if there, err := k.objects(k.template(pkcs11.CKO_PRIVATE_KEY)); err != nil {
		return err
	} else if len(there) > 0 {
		return errors.New("key: there is one of that name already")
	}
	id := k.uri.id
	if len(id) == 0 {
		id = make([]byte, 16)
		_, _ = rand.Read(id) // never fails
	}
	params, err := asn1.Marshal(curves[0].oid)
	if err != nil {
		return err
	}
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.uri.object), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	}
	public := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
	}, common...)
	private := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
	}, common...)
	if _, _, err := k.module.GenerateKeyPair(k.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private); err != nil {
		return fmt.Errorf("key: make: %w", err)
	}
	return nil
}

// Public implements crypto.Signer.
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer. If the session is gone, because the token was
// taken out and put back, it logs in once more.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	mechanism, message, err := k.mechanism(digest, o)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errors.New("key: closed")
	}
	raw, err := k.sign(mechanism, message)
	if lost(err) {
		_ = k.module.CloseSession(k.session)
		if err = k.open(false); err == nil {
			if err = k.find(); err == nil {
				raw, err = k.sign(mechanism, message)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sign in the token: %w", err)
	}
	if _, ok := k.public.(*ecdsa.PublicKey); !ok {
		return raw, nil
	}
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, errors.New("sign in the token: the answer is no signature")
	}
	return ecdsaDER(raw[:len(raw)/2], raw[len(raw)/2:])
}

func (k *tokenKey) sign(mechanism *pkcs11.Mechanism, message []byte) ([]byte, error) {
	if err := k.module.SignInit(k.session, []*pkcs11.Mechanism{mechanism}, k.handle); err != nil {
		return nil, err
	}
	return k.module.Sign(k.session, message)
}

func lost(err error) bool {
	for _, code := range []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_KEY_HANDLE_INVALID} {
		if errors.Is(err, pkcs11.Error(code)) {
			return true
		}
	}
	return false
}

// Hashes with what PKCS#11 calls them, and the DigestInfo before them in
// PKCS#1 v1.5 signatures (RFC 8017 section 9.2).
var hashes = map[crypto.Hash]struct {
	mechanism, mgf uint
	prefix         []byte
}{
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}},
	crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, []byte{0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}},
	crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}},
}

// mechanism says how the token signs a digest.
func (k *tokenKey) mechanism(digest []byte, o crypto.SignerOpts) (*pkcs11.Mechanism, []byte, error) {
	hash := o.HashFunc()
	known, ok := hashes[hash]
	if !ok || len(digest) != hash.Size() {
		return nil, nil, errors.New("sign in the token: only SHA-256, SHA-384 and SHA-512 digests are signed")
	}
	if _, ok := k.public.(*ecdsa.PublicKey); ok {
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest, nil
	}
	if pss, ok := o.(*rsa.PSSOptions); ok {
		salt := pss.SaltLength
		if salt == rsa.PSSSaltLengthEqualsHash || salt == rsa.PSSSaltLengthAuto {
			salt = hash.Size()
		}
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(known.mechanism, known.mgf, uint(salt))), digest, nil
	}
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append(bytes.Clone(known.prefix), digest...), nil
}

// Close logs out and unloads the module.
func (k *tokenKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	if k.session != 0 {
		_ = k.module.CloseSession(k.session)
	}
	err := k.module.Finalize()
	k.module.Destroy()
	return err
}
