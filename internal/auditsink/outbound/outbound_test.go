package outbound

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

func TestClient(t *testing.T) {
	t.Parallel()
	var token, path string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, path = r.Header.Get("Authorization"), r.URL.Path
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	get := func(r Receiver, url string) error {
		t.Helper()
		c, err := r.Client()
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		resp, err := c.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(Receiver{CABundle: bundle, Token: secret.NewString("hunter2")}, server.URL+"/in"); err != nil || token != "Bearer hunter2" || path != "/in" {
		t.Errorf("%v: token %q at %q", err, token, path)
	}
	if err := get(Receiver{}, server.URL); err == nil {
		t.Error("a certificate of nobody is good")
	}
	if err := get(Receiver{CABundle: bundle, Confined: true}, server.URL); !errors.Is(err, ErrConfined) {
		t.Errorf("a confined receiver on this machine: %v", err)
	}
	if err := get(Receiver{Token: secret.NewString("hunter2")}, "http"+server.URL[len("https"):]); err == nil {
		t.Error("a token went without TLS")
	}
}

func TestConfined(t *testing.T) {
	t.Parallel()
	control := (&Receiver{Confined: true}).Dialer().Control
	for address, refused := range map[string]bool{
		"127.0.0.1:443": true, "[::1]:443": true, "[::ffff:127.0.0.1]:443": true, "169.254.169.254:80": true, "[fe80::1]:443": true,
		"0.0.0.0:443": true, "[::]:443": true, "224.0.0.1:443": true, "203.0.113.5:443": false, "10.0.0.1:443": false, "[2001:db8::1]:443": false,
	} {
		if err := control("tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestBadMaterial(t *testing.T) {
	t.Parallel()
	if _, err := (&Receiver{CABundle: []byte("nothing")}).TLS(); err == nil {
		t.Error("a bundle without certificates")
	}
	if _, err := (&Receiver{Certificate: []byte("x"), Key: secret.NewBytes([]byte("y"))}).TLS(); err == nil {
		t.Error("a certificate that is none")
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for url, ok := range map[string]bool{
		"https://siem.example/in": true, "https://[2001:db8::1]:8443/": true, "http://siem.example/": false, "https:///in": false,
		"https://user:pass@siem.example/": false, "https://siem.example/?token=x": false, "https://siem.example/#f": false, "siem": false, "": false, "https://%zz": false,
	} {
		if err := CheckURL(url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}
