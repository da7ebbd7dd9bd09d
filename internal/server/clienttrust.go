package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/crl"
	"github.com/gatehouse-dev/gatehouse/internal/config"
)

// clientTrust keeps the further authorities of client certificates and
// the revocation lists in force.
type clientTrust struct {
	config config.Authentication
	trust  *trust
	lists  *crl.Lists
	log    *slog.Logger
}

// files reads what is configured. The sum changes with any of it, and with the
// control plane's own authorities.
func (c clientTrust) files() (foreign []byte, lists []*x509.RevocationList, sum [32]byte, err error) {
	h := sha256.New()
	if file := c.config.ClientCertificates.CAFile; file != "" {
		if foreign, err = os.ReadFile(file); err != nil {
			return nil, nil, sum, err
		}
	}
	own, err := c.own()
	if err != nil {
		return nil, nil, sum, err
	}
	h.Write(foreign)
	h.Write(own)
	for _, file := range c.config.ClientCertificates.CRLFiles {
		if info, err := os.Stat(file); err != nil || info.Size() > crl.MaxBytes {
			return nil, nil, sum, errors.Join(err, fmt.Errorf("revocation list: %s cannot be read or is larger than %d bytes", file, crl.MaxBytes))
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, sum, err
		}
		more, err := crl.Parse(data)
		if err != nil {
			return nil, nil, sum, fmt.Errorf("%s: %w", file, err)
		}
		lists = append(lists, more...)
		h.Write(data)
	}
	return foreign, lists, [32]byte(h.Sum(nil)), nil
}

// own are the control plane's authorities whose certificates a list can name.
func (c clientTrust) own() ([]byte, error) {
	client, err := c.trust.client.BundlePEM()
	if err != nil {
		return nil, err
	}
	proxies, err := c.trust.requestHeader.BundlePEM()
	if err != nil {
		return nil, err
	}
	out := append(bytes.Clone(client), proxies...)
	if file := c.config.RequestHeader.ClientCAFile; file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out = append(append(out, '\n'), data...)
	}
	return out, nil
}

// apply reads everything and puts it into force, or changes nothing.
func (c clientTrust) apply(chain *authn.Chain) ([32]byte, error) {
	foreign, lists, sum, err := c.files()
	if err != nil {
		return sum, fmt.Errorf("client certificates: %w", err)
	}
	own, err := c.own()
	if err != nil {
		return sum, fmt.Errorf("client certificates: %w", err)
	}
	issuers, err := certificatesOf(append(append(bytes.Clone(foreign), '\n'), own...))
	if err != nil {
		return sum, fmt.Errorf("client certificates: %w", err)
	}
	if err := c.lists.Replace(lists, issuers); err != nil {
		return sum, fmt.Errorf("client certificates: %w", err)
	}
	if len(foreign) == 0 {
		chain.SetForeignCAs(nil)
		return sum, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(foreign) {
		return sum, fmt.Errorf("client certificates: %s holds no certificate", c.config.ClientCertificates.CAFile)
	}
	chain.SetForeignCAs(pool)
	return sum, nil
}

func certificatesOf(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
}

// follow applies files that changed. What does not hold leaves everything as it
// is; a list that is not replaced in time then refuses its authority's
// certificates by itself.
func (c clientTrust) follow(ctx context.Context, chain *authn.Chain) error {
	if c.config.ClientCertificates.CAFile == "" && len(c.config.ClientCertificates.CRLFiles) == 0 {
		return nil
	}
	var seen, failed [32]byte
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	for {
		_, _, sum, err := c.files()
		if err == nil && sum != seen {
			_, err = c.apply(chain)
		}
		switch {
		case err == nil && sum != seen:
			seen = sum
			c.log.Info("client certificate trust applied")
		case err != nil && (sum != failed || failed == [32]byte{}):
			failed = sum
			c.log.Error("client certificate trust not applied", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
