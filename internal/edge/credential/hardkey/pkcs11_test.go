//go:build cgo

package hardkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/miekg/pkcs11"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// The module reads its settings from the environment, so this test cannot run
// beside others.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	conf, pin := filepath.Join(dir, "conf"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{conf: "directories.tokendir = " + dir + "\n", pin: "4711"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("softhsm2-util", "--init-token", "--free", "--label", "people", "--pin", "4711", "--so-pin", "12345678")
	uri := func(object string) string {
		return "pkcs11:token=people;object=" + object + "?module-path=" + softHSM + "&pin-source=" + pin
	}
	key, err := Create(uri("ec"), nil)
	if err != nil {
		t.Fatal(err)
	}
	k := key.(*tokenKey)
	digest := sha256.Sum256([]byte("text"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("signature: %v", err)
	}
	if _, err := key.Sign(nil, digest[:5], crypto.SHA256); err == nil {
		t.Error("half a digest is signed")
	}
	// The token itself refuses to show the key or to wrap it.
	if got, err := k.module.GetAttributeValue(k.session, k.handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)) {
		t.Errorf("the value: %v %v", got, err)
	}
	// A session that is gone is opened anew.
	if err := k.module.CloseAllSessions(slotOf(t, k)); err != nil {
		t.Fatal(err)
	}
	if signature, err = key.Sign(nil, digest[:], crypto.SHA256); err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("after the session: %v", err)
	}
	if err := key.Close(); err != nil {
		t.Error(err)
	}
	if _, err := key.Sign(nil, digest[:], crypto.SHA256); err == nil {
		t.Error("a closed key signs")
	}
	if _, err := Create(uri("ec"), nil); err == nil {
		t.Error("a second key of the same name")
	}
	if _, err := Open(uri("none"), nil); err == nil {
		t.Error("a key that is not there")
	}

	// RSA keys that somebody else made sign as TLS 1.3 and X.509 want it.
	run("pkcs11-tool", "--module", softHSM, "--token-label", "people", "--login", "--pin", "4711", "--keypairgen", "--key-type", "rsa:2048", "--label", "rsa", "--id", "01")
	if key, err = Open(uri("rsa"), nil); err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	public := key.Public().(*rsa.PublicKey)
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	if signature, err = key.Sign(nil, digest[:], pss); err != nil || rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, pss) != nil {
		t.Errorf("PSS: %v", err)
	}
	if signature, err = key.Sign(nil, digest[:], crypto.SHA256); err != nil || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) != nil {
		t.Errorf("PKCS #1 v1.5: %v", err)
	}
	if err := os.WriteFile(pin, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(uri("rsa"), nil); err == nil {
		t.Error("a wrong PIN")
	}
}

func slotOf(t *testing.T, k *tokenKey) uint {
	t.Helper()
	info, err := k.module.GetSessionInfo(k.session)
	if err != nil {
		t.Fatal(err)
	}
	return info.SlotID
}
