package origin

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
)

// oidComment is the extension for a comment (Netscape certificate extensions):
// every tool shows it and no verifier acts on it, unlike an alternative name,
// which the authority of clients never issues.
var oidComment = asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 13}

const commentPrefix = "gatehouse-origin "

// Extension is a line as a certificate of ours carries it. It is not critical.
func Extension(line []string) (pkix.Extension, error) {
	value, err := asn1.MarshalWithParams(commentPrefix+strings.Join(line, " "), "ia5")
	return pkix.Extension{Id: oidComment, Value: value}, err
}

// OfCertificate returns the line in a certificate of our own authority, nil when
// it carries none; ok is false for one that nobody but ourselves should have
// written and that cannot be read.
func OfCertificate(certificate *x509.Certificate) (line []string, ok bool) {
	for _, e := range certificate.Extensions {
		if !e.Id.Equal(oidComment) {
			continue
		}
		var text string
		rest, err := asn1.UnmarshalWithParams(e.Value, &text, "ia5")
		if err != nil || len(rest) > 0 {
			return nil, false
		}
		if text, found := strings.CutPrefix(text, commentPrefix); found {
			line = strings.Split(text, " ")
			return line, Check(line)
		}
	}
	return nil, true
}
