package authn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// podToken returns a token bound to a pod on a node, as kubelets ask for.
func (w *world) podToken(n int) string {
	id := func(kind int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", kind, n) }
	name := fmt.Sprintf("deployment-7d4b9c57f6-%05x", n)
	w.put(authn.PodObject, "ns", name, id(1), time.Time{})
	claims := w.bound(object{"pod": object{"name": name, "uid": id(1)}, "node": object{"name": fmt.Sprintf("node-%d", n%100), "uid": id(2)[:35] + "0"}})
	claims["jti"] = id(3)
	return w.token(claims)
}

func BenchmarkVerifyToken(b *testing.B) {
	w := newWorld(b)
	ctx := context.Background()
	b.Run("remembered", func(b *testing.B) {
		token := w.podToken(1)
		w.accepted(token)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.chain.VerifyToken(ctx, token, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered-parallel", func(b *testing.B) {
		tokens := make([]string, 1000)
		for i := range tokens {
			tokens[i] = w.podToken(i)
			w.accepted(tokens[i])
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, err := w.chain.VerifyToken(ctx, tokens[i%len(tokens)], nil); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("cold", func(b *testing.B) {
		tokens := make([]string, 4096)
		cold := newWorld(b, func(c *authn.Config) { c.Places = 8 })
		for i := range tokens {
			tokens[i] = cold.podToken(i)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if _, err := cold.chain.VerifyToken(ctx, tokens[i%len(tokens)], nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("crypto-ecdsa-alone", func(b *testing.B) {
		sum := sha256.Sum256([]byte("payload"))
		der, err := ecdsa.SignASN1(rand.Reader, w.private, sum[:])
		must(b, err)
		for b.Loop() {
			if !ecdsa.VerifyASN1(&w.private.PublicKey, sum[:], der) {
				b.Fatal("does not verify")
			}
		}
	})
	b.Run("garbage-unknown-key", func(b *testing.B) {
		stranger := newKey(b)
		token := sign(b, stranger, `{"alg":"ES256","kid":"nobody"}`, text(b, w.claims()))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.chain.VerifyToken(ctx, token, nil); err == nil {
				b.Fatal("accepted")
			}
		}
	})
	b.Run("extra", func(b *testing.B) {
		id := w.accepted(w.podToken(1))
		b.ReportAllocs()
		for b.Loop() {
			if len(id.Extra()) != 5 {
				b.Fatal(id.Extra())
			}
		}
	})
}

func BenchmarkVerifyCertificate(b *testing.B) {
	w := newWorld(b)
	ca := newAuthority(b, w.clock, "client CA", nil)
	w.chain.SetClientCAs(ca.pool())
	peer := []*x509.Certificate{ca.issue(pkix.Name{CommonName: "user", Organization: []string{"team"}})}
	ctx := context.Background()
	b.Run("open-connection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.chain.VerifyCertificate(ctx, peer); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new-connection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			again, err := x509.ParseCertificate(peer[0].Raw)
			must(b, err)
			if _, err := w.chain.VerifyCertificate(ctx, []*x509.Certificate{again}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestMemoryOfManyTokens holds the memory of 100,000 tokens in use to 20 MB:
// tokens of 5,000 accounts, each bound to a pod on one of 100 nodes.
func TestMemoryOfManyTokens(t *testing.T) {
	const tokens, accounts, limit = 100_000, 5_000, 20 << 20
	w := newWorld(t)
	claimed := make([]authn.TestClaims, tokens)
	id := func(kind, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", kind, n) }
	for i := range claimed {
		account := i % accounts
		claimed[i] = authn.TestClaims{
			Namespace: fmt.Sprintf("namespace-%d", account/10), Account: fmt.Sprintf("account-%d", account), AccountUID: id(1, account),
			ID: id(2, i), PodName: fmt.Sprintf("deployment-7d4b9c57f6-%05x", i), PodUID: id(3, i),
			NodeName: fmt.Sprintf("node-%d", i%100), NodeUID: id(4, i%100), Audience: audience, Expires: w.clock.now().Add(time.Hour).Unix(),
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	authn.Remember(t, w.chain, issuerURL, w.signer.Key(), claimed)
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	held := authn.Held(w.chain)
	t.Logf("%d of %d tokens held in %.1f MiB more, %d bytes each", held, tokens, float64(used)/(1<<20), used/int64(held))
	if used > limit {
		t.Errorf("%d bytes for %d tokens, at most %d allowed", used, held, limit)
	}
	if held < tokens*9/10 {
		t.Errorf("only %d tokens are held", held)
	}
	runtime.KeepAlive(claimed)
	w.clock.advance(time.Minute)
	w.chain.Sweep()
	if held := authn.Held(w.chain); held != 0 {
		t.Errorf("%d tokens are held after a minute without use", held)
	}
}
