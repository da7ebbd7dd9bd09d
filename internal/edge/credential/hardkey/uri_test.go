package hardkey

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := parse("pkcs11:token=My%20token;id=%01%ff;object=a%3Bb;type=private?module-path=/m.so&pin-source=file:/p")
	u, ok := got.(pkcs11URI)
	if err != nil || !ok || u.token != "My token" || u.object != "a;b" || !bytes.Equal(u.id, []byte{1, 255}) || u.module != "/m.so" || u.pinSource != "file:/p" {
		t.Errorf("%+v %v", got, err)
	}
	got, err = parse("tpm:/dev/tpmrm0?handle=0x81010001")
	if k, ok := got.(tpmURI); err != nil || !ok || k.device != "/dev/tpmrm0" || k.handle != 0x81010001 {
		t.Errorf("%+v %v", got, err)
	}
	for uri, says := range map[string]string{
		"":                                  "must begin",
		"/path/of/key.pem":                  "must begin",
		"file:/key.pem":                     "not pkcs11 or tpm",
		"pkcs11:object=a?module-path=/m.so": "token or serial",
		"pkcs11:token=a?module-path=/m.so":  "object or id",
		"pkcs11:token=a;object=b":           "module-path",
		"pkcs11:token=a;object=b?module-path=m.so":                      "module-path",
		"pkcs11:token=a;object=b?module-path=/m.so&pin-value=1234":      "pin-value would show",
		"pkcs11:token=a;token=b;object=c?module-path=/m.so":             "not the first",
		"pkcs11:token=a;object=b;type=public?module-path=/m.so":         "private",
		"pkcs11:token=a;object=b;slot-id=0?module-path=/m.so":           "not known",
		"pkcs11:token=a;object=b?module-path=/m.so&module-name=softhsm": "not known",
		"pkcs11:token=%zz;object=b?module-path=/m.so":                   "not an attribute",
		"tpm:tpm0?handle=0x81010001":                                    "absolute path",
		"tpm:/dev/tpm0":                                                 "handle is required",
		"tpm:/dev/tpm0?handle=0x80000000":                               "persistent",
		"tpm:/dev/tpm0?handle=0x81800000":                               "persistent",
		"tpm:/dev/tpm0?handle=x":                                        "persistent",
		"tpm:/dev/tpm0?pin-value=1&handle=0x81010001":                   "pin-value would show",
		"tpm:" + strings.Repeat("/", maxURI):                            "longer",
	} {
		if got, err := parse(uri); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %+v %v, want %q", uri, got, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=a;object=b?module-path=/m.so&pin-source=file:/p")
	f.Add("tpm:/dev/tpmrm0?handle=0x81010001")
	f.Fuzz(func(t *testing.T, uri string) {
		switch u, err := parse(uri); k := u.(type) {
		case pkcs11URI:
			if err != nil || !filepath.IsAbs(k.module) {
				t.Errorf("%q: %+v %v", uri, k, err)
			}
		case tpmURI:
			if err != nil || !filepath.IsAbs(k.device) || k.handle < minHandle || k.handle > maxHandle {
				t.Errorf("%q: %+v %v", uri, k, err)
			}
		default:
			if err == nil {
				t.Errorf("%q is nothing, without an error", uri)
			}
		}
	})
}

func TestPIN(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", "4711\n", 0o600)
	for _, source := range []string{good, "file:" + good, "file://" + good} {
		if pin, err := pinOf(source, "", nil); err != nil || pin.Reveal() != "4711" {
			t.Errorf("%s: %v", source, err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{
		"others can read it": write("open", "4711", 0o644), "empty": write("empty", "\n", 0o600), "long": write("long", strings.Repeat("1", 300), 0o600),
		"a link": link, "not there": filepath.Join(dir, "none"), "relative": "good", "a program": "|cat " + good, "a directory": dir, "nobody to ask": "",
	} {
		if _, err := pinOf(source, "", nil); err == nil {
			t.Errorf("%s is accepted", name)
		} else if strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: the PIN is in the error", name)
		}
	}
	asked := ""
	if pin, err := pinOf("ask", "PIN of x", func(what string) (secret.String, error) { asked = what; return secret.NewString("1"), nil }); err != nil || pin.Reveal() != "1" || asked != "PIN of x" {
		t.Errorf("%q %v", asked, err)
	}
}

func TestModulesOfOthersAreNotLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "m.so")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkModule(path); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if checkModule(path) == nil {
		t.Error("a module that others can write")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if checkModule(path) == nil || checkModule(dir) == nil || checkModule(filepath.Join(dir, "none")) == nil {
		t.Error("a module that others can replace, a directory, or nothing")
	}
}
