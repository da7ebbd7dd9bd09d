// Package crl knows which client certificates their authorities took back,
// from certificate revocation lists (RFC 5280, section 5).
//
// It owns: reading lists, proving that each is of an authority that is trusted
// here, and the question whether a certificate stands in one. It refuses:
// lists of strangers, delta and indirect lists (an entry could be about
// another authority's certificates, or missing), and to go on with a list that
// is overdue: until a newer one is there, every certificate of its authority
// counts as revoked. An authority without a list revokes nothing.
//
// Start at [Parse] and [Lists.Replace].
package crl

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Bounds on what is read.
const (
	// MaxBytes bounds a file of lists.
	MaxBytes = 32 << 20
	maxLists = 64
)

// Parse reads lists: one in DER, or any number in PEM.
func Parse(data []byte) ([]*x509.RevocationList, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("revocation list: more than %d bytes", MaxBytes)
	}
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		list, err := parse(data)
		if err != nil {
			return nil, err
		}
		return []*x509.RevocationList{list}, nil
	}
	var out []*x509.RevocationList
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("revocation list: a PEM block of type %.64q", block.Type)
		}
		list, err := parse(block.Bytes)
		if err != nil {
			return nil, err
		}
		if out = append(out, list); len(out) > maxLists {
			return nil, fmt.Errorf("revocation list: more than %d in one file", maxLists)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("revocation list: the file holds none")
	}
	return out, nil
}

// Extensions of a list that we understand; any other critical one changes what
// the list means (RFC 5280, section 5.2).
var (
	oidNumber    = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidAuthority = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidDelta     = asn1.ObjectIdentifier{2, 5, 29, 27}
)

func parse(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDelta):
			return nil, errors.New("revocation list: a delta list, which says too little")
		case e.Critical && !e.Id.Equal(oidNumber) && !e.Id.Equal(oidAuthority):
			return nil, fmt.Errorf("revocation list: critical extension %v is not understood", e.Id)
		}
	}
	if list.NextUpdate.IsZero() {
		return nil, errors.New("revocation list: it does not say when the next one comes")
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical {
				return nil, fmt.Errorf("revocation list: an entry has a critical extension %v, which is not understood", e.Id)
			}
		}
	}
	return list, nil
}

// Lists are those in force. It is safe for concurrent use, and costs nothing
// while it is empty.
type Lists struct {
	now     func() time.Time
	current atomic.Pointer[map[string]authority]
}

// authority is what one authority, by the name in its certificates, took back.
type authority struct {
	serials map[string]bool
	until   time.Time
}

// New returns empty lists. now is the clock.
func New(now func() time.Time) *Lists {
	l := &Lists{now: now}
	l.current.Store(&map[string]authority{})
	return l
}

// Replace puts lists into force. Each must be signed by one of the issuers; of
// two of one issuer the later counts. On an error nothing changes.
func (l *Lists) Replace(lists []*x509.RevocationList, issuers []*x509.Certificate) error {
	next := map[string]authority{}
	numbers := map[string]time.Time{}
	for _, list := range lists {
		if err := signedByAny(list, issuers); err != nil {
			return err
		}
		name := string(list.RawIssuer)
		if list.ThisUpdate.Before(numbers[name]) {
			continue
		}
		numbers[name] = list.ThisUpdate
		a := authority{serials: make(map[string]bool, len(list.RevokedCertificateEntries)), until: list.NextUpdate}
		for _, entry := range list.RevokedCertificateEntries {
			a.serials[string(entry.SerialNumber.Bytes())] = true
		}
		next[name] = a
	}
	l.current.Store(&next)
	return nil
}

func signedByAny(list *x509.RevocationList, issuers []*x509.Certificate) error {
	for _, issuer := range issuers {
		if bytes.Equal(issuer.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(issuer) == nil {
			return nil
		}
	}
	return fmt.Errorf("revocation list of %.200q: it is not signed by an authority of client certificates", list.Issuer.String())
}

// Revoked reports whether the authority of a certificate took it back, or has
// not said anything in time.
func (l *Lists) Revoked(certificate *x509.Certificate) bool {
	current := *l.current.Load()
	if len(current) == 0 {
		return false
	}
	a, ok := current[string(certificate.RawIssuer)]
	return ok && (a.serials[string(certificate.SerialNumber.Bytes())] || !l.now().Before(a.until))
}
