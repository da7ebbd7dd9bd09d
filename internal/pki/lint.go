package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	maxGroups   = 64
	maxNameSize = 512 // bytes of a user or group
	maxSANs     = 100
	minRSABits  = 2048
	maxRSABits  = 8192
)

// A check looks at one property of a template and returns what is wrong with
// it, beginning with the field, or "".
type check func(t *x509.Certificate) string

// lint runs the checks of every profile and those of one, and returns all
// faults as one error of kind Invalid.
func lint(t *x509.Certificate, public crypto.PublicKey, checks []check) error {
	var faults []string
	for _, c := range append([]check{
		func(*x509.Certificate) string { return keyStrength(public) },
		user,
		groups,
		endEntity,
	}, checks...) {
		if text := c(t); text != "" {
			faults = append(faults, text)
		}
	}
	if len(faults) > 0 {
		return fault.New(fault.Invalid, strings.Join(faults, "; "))
	}
	return nil
}

// keyStrength admits what TLS 1.3 signs with at 112 bits of strength and more.
func keyStrength(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return "public key: must be on P-256, P-384 or P-521"
		}
		if !onCurve(k) {
			return "public key: is not a point of its curve"
		}
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return "public key: has a wrong length"
		}
	case *rsa.PublicKey:
		if k == nil || k.N == nil || k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits {
			return fmt.Sprintf("public key: RSA must have %d to %d bits", minRSABits, maxRSABits)
		}
		// FIPS 186-5, appendix A.1.1.
		if k.E < 1<<16+1 || k.E%2 == 0 || k.N.Bit(0) == 0 {
			return "public key: RSA needs an odd modulus and an odd exponent of at least 65537"
		}
	default:
		return "public key: must be ECDSA, Ed25519 or RSA"
	}
	return ""
}

func onCurve(k *ecdsa.PublicKey) bool {
	//lint:ignore SA1019 the library takes the coordinates for granted
	if k.X == nil || k.Y == nil {
		return false
	}
	_, err := k.ECDH()
	return err == nil
}

func user(t *x509.Certificate) string { return nameText("user", t.Subject.CommonName) }

func groups(t *x509.Certificate) string {
	if len(t.Subject.Organization) > maxGroups {
		return fmt.Sprintf("groups: must be at most %d", maxGroups)
	}
	for i, g := range t.Subject.Organization {
		if text := nameText("groups", g); text != "" {
			return text
		}
		if slices.Contains(t.Subject.Organization[:i], g) {
			return fmt.Sprintf("groups: %q is there twice", g)
		}
	}
	return ""
}

// nameText refuses what two readers could take for different names.
func nameText(field, name string) string {
	switch {
	case name == "":
		return field + ": must not be empty"
	case len(name) > maxNameSize:
		return fmt.Sprintf("%s: must have at most %d bytes", field, maxNameSize)
	case !utf8.ValidString(name):
		return field + ": must be UTF-8"
	case strings.TrimSpace(name) != name:
		return field + ": must not begin or end with a space"
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return field + ": must hold printable characters only"
	}
	return ""
}

func endEntity(t *x509.Certificate) string {
	if t.IsCA || len(t.ExtKeyUsage) != 1 || t.KeyUsage != x509.KeyUsageDigitalSignature {
		return "usage: must be one of an end entity"
	}
	return ""
}

// noReservedNames refuses every user and group that only the control plane
// itself gives, except those that the profile is for.
func noReservedNames(except ...string) check {
	return func(t *x509.Certificate) string {
		for _, name := range append([]string{t.Subject.CommonName}, t.Subject.Organization...) {
			reserved := strings.HasPrefix(name, "system:") || strings.HasPrefix(name, sitename.Prefix)
			if reserved && !slices.Contains(except, name) {
				return fmt.Sprintf("name: %q is reserved", name)
			}
		}
		return ""
	}
}

// siteLabel demands the grammar of a site's name (RFC 1123 label), without the
// dot that would let one site's name look like a part of another's.
func siteLabel(name string) check {
	return func(*x509.Certificate) string {
		if !label(name) {
			return "site: must be at most 63 lower case letters, digits and '-', and begin and end with one of the first two"
		}
		return ""
	}
}

// objectName demands the grammar of names of API objects (RFC 1123 subdomain).
func objectName(kind, name string) check {
	return func(*x509.Certificate) string {
		if !hostname(name) {
			return kind + ": must be lower case letters, digits, '-' and '.', as a host name is"
		}
		return ""
	}
}

func servingNames(n Names) check {
	return func(*x509.Certificate) string {
		if total := len(n.DNS) + len(n.IPs); total == 0 || total > maxSANs {
			return fmt.Sprintf("names: must be 1 to %d", maxSANs)
		}
		for _, name := range n.DNS {
			rest, wildcard := strings.CutPrefix(name, "*.")
			if _, err := netip.ParseAddr(name); err == nil || !hostname(rest) || wildcard && !strings.Contains(rest, ".") {
				return fmt.Sprintf("names: %q is not a host name in lower case", name)
			}
		}
		for _, ip := range n.IPs {
			if !ip.IsValid() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
				return fmt.Sprintf("names: %q is not the address of a host", ip)
			}
		}
		return ""
	}
}

func hostname(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if !label(part) {
			return false
		}
	}
	return true
}

func label(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
}
