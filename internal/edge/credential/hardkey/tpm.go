package hardkey

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// tpmKey is a persistent key of the owner in a TPM 2.0.
type tpmKey struct {
	pin    secret.String
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public *ecdsa.PublicKey
	hash   tpm2.TPMIAlgHash // that the key is for

	mu     sync.Mutex // guards device: one command at a time
	device transport.TPMCloser
}

func openDevice(path string) (transport.TPMCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	open := linuxtpm.Open
	if info.Mode().Type() == fs.ModeSocket {
		open = linuxudstpm.Open
	}
	device, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	return device, nil
}

func openTPM(u tpmURI, pin secret.String) (Key, error) {
	device, err := openDevice(u.device)
	if err != nil {
		return nil, err
	}
	k := &tpmKey{pin: pin, handle: tpm2.TPMHandle(u.handle), device: device}
	if err := k.read(); err != nil {
		_ = device.Close()
		return nil, err
	}
	return k, nil
}

// read learns the public half and holds the key against what this package is
// for: made in this TPM and bound to it (TPM 2.0 Library, part 1, section 25).
func (k *tpmKey) read() error {
	got, err := tpm2.ReadPublic{ObjectHandle: k.handle}.Execute(k.device)
	if err != nil {
		return fmt.Errorf("key: handle %#x: %w", uint32(k.handle), err)
	}
	public, err := got.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	a := public.ObjectAttributes
	switch {
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin:
		return errors.New("key: it could be taken out of the TPM, or was put in from outside")
	case !a.SignEncrypt || a.Restricted || !a.UserWithAuth:
		return errors.New("key: is not one for signing")
	case public.Type != tpm2.TPMAlgECC:
		return errors.New("key: is not ECDSA")
	}
	params, err := public.Parameters.ECCDetail()
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if k.public, err = tpm2.ECDSAPub(params, point); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if scheme, err := params.Scheme.Details.ECDSA(); params.Scheme.Scheme == tpm2.TPMAlgECDSA && err == nil {
		k.hash = scheme.HashAlg
	}
	k.name = got.Name
	return nil
}

// createTPM makes a key under the storage root of the owner and has the TPM
// keep it; nothing of it is ever on disk, not even wrapped.
func createTPM(u tpmURI, pin secret.String) (Key, error) {
	device, err := openDevice(u.device)
	if err != nil {
		return nil, err
	}
	if err := create(device, tpm2.TPMHandle(u.handle), pin); err != nil {
		_ = device.Close()
		return nil, err
	}
	if err := device.Close(); err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	return openTPM(u, pin)
}

func create(device transport.TPM, handle tpm2.TPMHandle, pin secret.String) error {
	if _, err := (tpm2.ReadPublic{ObjectHandle: handle}).Execute(device); err == nil {
		return fmt.Errorf("key: handle %#x is taken", uint32(handle))
	}
	root, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(device)
	if err != nil {
		return fmt.Errorf("TPM: storage root: %w", err)
	}
	defer flush(device, root.ObjectHandle)
	parent := tpm2.NamedHandle{Handle: root.ObjectHandle, Name: root.Name}
	made, err := tpm2.Create{
		ParentHandle: parent,
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(pin.Reveal())}}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{
				FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true,
				// Without a PIN there is nothing to guess, and a lock-out would only
				// harm other keys.
				NoDA: pin.Len() == 0,
			},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				CurveID: tpm2.TPMECCNistP256,
				Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			}),
		}),
	}.Execute(device, sealed(root))
	if err != nil {
		return fmt.Errorf("key: make: %w", err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(device)
	if err != nil {
		return fmt.Errorf("key: load: %w", err)
	}
	defer flush(device, loaded.ObjectHandle)
	if _, err := (tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, PersistentHandle: handle,
	}).Execute(device); err != nil {
		return fmt.Errorf("key: keep: %w", err)
	}
	return nil
}

// sealed is a session under whose cover the PIN of a new key reaches the TPM, so
// that who listens on its bus does not read it.
func sealed(root *tpm2.CreatePrimaryResponse) tpm2.Session {
	options := []tpm2.AuthOption{tpm2.AESEncryption(128, tpm2.EncryptIn)}
	if public, err := root.OutPublic.Contents(); err == nil {
		options = append(options, tpm2.Salted(root.ObjectHandle, *public))
	}
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, options...)
}

func flush(device transport.TPM, handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(device) // the slot is freed at the next reset otherwise
}

// Public implements crypto.Signer.
func (k *tpmKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (k *tpmKey) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	algorithm := map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512}[o.HashFunc()]
	if algorithm == 0 || len(digest) != o.HashFunc().Size() || k.hash != 0 && k.hash != algorithm {
		return nil, errors.New("sign in the TPM: the key is not for that hash")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.device == nil {
		return nil, errors.New("key: closed")
	}
	// The session proves that the PIN is known without sending it.
	signed, err := tpm2.Sign{
		KeyHandle: tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth([]byte(k.pin.Reveal())))},
		Digest:    tpm2.TPM2BDigest{Buffer: digest},
		InScheme:  tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: algorithm})},
		Validation: tpm2.TPMTTKHashCheck{
			Tag: tpm2.TPMSTHashCheck,
		},
	}.Execute(k.device)
	if err != nil {
		return nil, fmt.Errorf("sign in the TPM: %w", err)
	}
	s, err := signed.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("sign in the TPM: %w", err)
	}
	return ecdsaDER(s.SignatureR.Buffer, s.SignatureS.Buffer)
}

// Close gives the device back.
func (k *tpmKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.device == nil {
		return nil
	}
	err := k.device.Close()
	k.device = nil
	return err
}

// ecdsaDER writes a signature as X.509 and TLS have it (RFC 3279 section 2.2.3).
func ecdsaDER(r, s []byte) ([]byte, error) {
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
}
