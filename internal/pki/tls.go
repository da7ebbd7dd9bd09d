package pki

import (
	"crypto/tls"
	"crypto/x509"
)

// curves are the key agreements on offer: hybrid post-quantum first, so that
// traffic recorded today stays closed to the machines of later.
func curves() []tls.CurveID {
	return []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256}
}

// ServerTLS returns the configuration of every listener we own: TLS 1.3 only.
//
// A client certificate is asked for and not verified: which authority counts
// depends on the door, and a caller whose certificate is refused gets an
// answer that says so instead of a broken handshake. Whoever reads
// PeerCertificates must use [VerifyClient]. Sessions are not resumed, so that
// every connection proves possession of its key.
func ServerTLS(s *Serving) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       curves(),
		GetCertificate:         s.GetCertificate,
		ClientAuth:             tls.RequestClientCert,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
	}
}

// ClientTLS returns the configuration of a caller of our listeners that trusts
// roots and nothing else; nil trusts nobody. certificate may be nil.
func ClientTLS(roots *x509.CertPool, certificate *tls.Certificate) *tls.Config {
	if roots == nil {
		// The library would take the roots of the system.
		roots = x509.NewCertPool()
	}
	c := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: curves(),
		RootCAs:          roots,
	}
	if certificate != nil {
		c.Certificates = []tls.Certificate{*certificate}
	}
	return c
}
