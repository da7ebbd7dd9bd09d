package main

import (
	"context"
	"testing"
)

func TestAuthorizeUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // without a certificate
	good := []string{"authorize", "--server=https://gatehouse.example:7443", "--site=blue", "--dir=" + dir, "--state-dir=" + dir, "--listen=127.0.0.1:0"}
	for name, args := range map[string][]string{
		"nothing":              {"authorize"},
		"no certificate":       good,
		"every address":        append(good[:5:5], "--listen=0.0.0.0:7444"),
		"a short age":          append(good[:6:6], "--max-age=1s"),
		"no room":              append(good[:6:6], "--journal-size=0"),
		"unknown when full":    append(good[:6:6], "--journal-full=forget"),
		"unknown mode":         append(good[:6:6], "--mode=observe"),
		"an argument":          append(good[:6:6], "blue"),
		"an unknown flag":      append(good[:6:6], "--insecure"),
		"a server without TLS": append(good[:6:6], "--server=http://gatehouse.example"),
	} {
		if code := run(context.Background(), args); code != exitUsage {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}
