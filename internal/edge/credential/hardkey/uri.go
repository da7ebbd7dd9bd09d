package hardkey

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// A Key is a private key where it is. Sign may be called concurrently.
type Key interface {
	crypto.Signer
	io.Closer
}

// PIN asks the person for a PIN; what says which.
type PIN func(what string) (secret.String, error)

// maxURI bounds a name, in bytes.
const maxURI = 4096

// pkcs11URI and tpmURI are the two kinds of names.
type pkcs11URI struct {
	token, serial, object string
	id                    []byte
	module, pinSource     string
}

type tpmURI struct {
	device    string
	handle    uint32
	pinSource string
}

// Persistent handles of the owner (TPM 2.0 Library, part 2, section 7.5, and
// the TCG's registry of reserved handles).
const (
	minHandle = 0x81000000
	maxHandle = 0x817FFFFF
)

// Open finds the key that uri names.
func Open(uri string, ask PIN) (Key, error) { return use(uri, ask, openPKCS11, openTPM) }

// Create makes a P-256 key that cannot be taken out under the name uri, where
// there must be none yet.
func Create(uri string, ask PIN) (Key, error) { return use(uri, ask, createPKCS11, createTPM) }

func use(uri string, ask PIN, pkcs11 func(pkcs11URI, secret.String) (Key, error), tpm func(tpmURI, secret.String) (Key, error)) (Key, error) {
	parsed, err := parse(uri)
	if err != nil {
		return nil, err
	}
	switch u := parsed.(type) {
	case pkcs11URI:
		pin, err := pinOf(u.pinSource, "PIN of token "+strconv.Quote(u.token+u.serial), ask)
		if err != nil {
			return nil, err
		}
		return pkcs11(u, pin)
	case tpmURI:
		// Keys in a TPM may have no PIN: the machine is what one has.
		var pin secret.String
		if u.pinSource != "" {
			if pin, err = pinOf(u.pinSource, "PIN of the key", ask); err != nil {
				return nil, err
			}
		}
		return tpm(u, pin)
	}
	return nil, errors.New("no such kind of key")
}

// parse reads a name; it looks at nothing else.
func parse(uri string) (any, error) {
	if len(uri) > maxURI {
		return nil, fmt.Errorf("key: longer than %d bytes", maxURI)
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return nil, errors.New("key: must begin with pkcs11 or tpm and a colon")
	}
	path, query, _ := strings.Cut(rest, "?")
	attributes, err := pairs(query, "&")
	if err != nil {
		return nil, err
	}
	if _, there := attributes["pin-value"]; there {
		return nil, errors.New("key: pin-value would show the PIN to everybody on this machine; use pin-source")
	}
	switch scheme {
	case "pkcs11":
		return parsePKCS11(path, attributes)
	case "tpm":
		return parseTPM(path, attributes)
	}
	return nil, fmt.Errorf("key: %.40q is not pkcs11 or tpm", scheme)
}

func parsePKCS11(path string, query map[string]string) (any, error) {
	attributes, err := pairs(path, ";")
	if err != nil {
		return nil, err
	}
	var u pkcs11URI
	for name, value := range attributes {
		switch name {
		case "token":
			u.token = value
		case "serial":
			u.serial = value
		case "object":
			u.object = value
		case "id":
			u.id = []byte(value)
		case "type":
			if value != "private" {
				return nil, errors.New("key: type must be private")
			}
		default: // RFC 7512 section 2.3: what is not understood cannot be matched
			return nil, fmt.Errorf("key: attribute %.40q is not known", name)
		}
	}
	for name, value := range query {
		switch name {
		case "module-path":
			u.module = value
		case "pin-source":
			u.pinSource = value
		default:
			return nil, fmt.Errorf("key: attribute %.40q is not known", name)
		}
	}
	switch {
	case u.token == "" && u.serial == "":
		return nil, errors.New("key: token or serial is required")
	case u.object == "" && len(u.id) == 0:
		return nil, errors.New("key: object or id is required")
	case !filepath.IsAbs(u.module):
		return nil, errors.New("key: module-path must be an absolute path")
	}
	return u, nil
}

func parseTPM(path string, query map[string]string) (any, error) {
	device, err := url.PathUnescape(path)
	if err != nil || !filepath.IsAbs(device) {
		return nil, errors.New("key: tpm: must be followed by the absolute path of a device or socket")
	}
	u := tpmURI{device: device}
	for name, value := range query {
		switch name {
		case "handle":
			n, err := strconv.ParseUint(value, 0, 32)
			if err != nil || n < minHandle || n > maxHandle {
				return nil, fmt.Errorf("key: handle must be a persistent one of the owner, %#x to %#x", minHandle, maxHandle)
			}
			u.handle = uint32(n)
		case "pin-source":
			u.pinSource = value
		default:
			return nil, fmt.Errorf("key: attribute %.40q is not known", name)
		}
	}
	if u.handle == 0 {
		return nil, errors.New("key: handle is required")
	}
	return u, nil
}

// pairs reads name=value, percent-encoded, each name once (RFC 7512 section 2.3).
func pairs(text, separator string) (map[string]string, error) {
	all := map[string]string{}
	for part := range strings.SplitSeq(text, separator) {
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		plain, err := url.PathUnescape(value)
		if _, twice := all[name]; !ok || twice || err != nil || plain == "" {
			return nil, fmt.Errorf("key: %.40q is not an attribute, or not the first of its name", name)
		}
		all[name] = plain
	}
	return all, nil
}

// pinOf reads a PIN from its source, or asks.
func pinOf(source, what string, ask PIN) (secret.String, error) {
	if source == "" || source == "ask" {
		if ask == nil {
			return secret.String{}, errors.New("PIN: nobody is there to ask; name a file with pin-source")
		}
		return ask(what)
	}
	path := strings.TrimPrefix(strings.TrimPrefix(source, "file:"), "//")
	if !filepath.IsAbs(path) {
		return secret.String{}, errors.New("PIN: pin-source must be the absolute path of a file")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return secret.String{}, fmt.Errorf("PIN: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return secret.String{}, fmt.Errorf("PIN: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return secret.String{}, fmt.Errorf("PIN: %s must be a file that nobody else can read (mode 0600)", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, 257))
	if err != nil {
		return secret.String{}, fmt.Errorf("PIN: %w", err)
	}
	pin := strings.TrimRight(string(data), "\r\n")
	if pin == "" || len(data) > 256 {
		return secret.String{}, fmt.Errorf("PIN: %s must hold one line of 1 to 255 bytes", path)
	}
	return secret.NewString(pin), nil
}

// checkModule refuses to load code that another user could have written.
func checkModule(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("module: %w", err)
	}
	for _, p := range []string{real, filepath.Dir(real)} {
		info, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("module: %w", err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || info.Mode().Perm()&0o022 != 0 || stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
			return fmt.Errorf("module: others can write %s", p)
		}
		if p == real && info.Mode().Type() != fs.FileMode(0) {
			return fmt.Errorf("module: %s is not a file", p)
		}
	}
	return nil
}
