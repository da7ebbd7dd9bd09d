package jws

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
)

func BenchmarkVerifyES256(b *testing.B) {
	signer, private := newSigner(b, "k1")
	payload := []byte(`{"iss":"https://gatehouse.example","sub":"` + strings.Repeat("s", 600) + `"}`)
	token, err := signer.Sign(payload)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			unverified, err := Parse(token)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := unverified.Verify(signer.Key()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("crypto-ecdsa-alone", func(b *testing.B) {
		sum := sha256.Sum256(payload)
		der, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if !ecdsa.VerifyASN1(&private.PublicKey, sum[:], der) {
				b.Fatal("does not verify")
			}
		}
	})
}

func BenchmarkSignES256(b *testing.B) {
	signer, _ := newSigner(b, "k1")
	payload := []byte(strings.Repeat("p", 600))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signer.Sign(payload); err != nil {
			b.Fatal(err)
		}
	}
}
