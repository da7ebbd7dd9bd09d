package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// A client sends requests that kubectl would not.
type client struct {
	t    *testing.T
	base string
	http *http.Client
}

// A status is the answer to a request that failed, as every Kubernetes client
// reads it.
type status struct {
	Kind, Status, Message, Reason string
	Code                          int
	Details                       struct {
		Causes []struct{ Field, Message, Reason string }
	}
}

// adminClient speaks to a server as its administrator.
func adminClient(t *testing.T, server hasKubectl) client {
	t.Helper()
	base, config, err := as(t, server).k.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, base, config)
}

// bareClient trusts the server and shows no credential.
func bareClient(t *testing.T, server hasKubectl, certificates ...tls.Certificate) client {
	t.Helper()
	base, config, err := as(t, server).k.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = certificates
	return newClient(t, base, config)
}

func newClient(t *testing.T, base string, config *tls.Config) client {
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return client{t: t, base: base, http: &http.Client{
		Timeout:   commandWithin,
		Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

// send returns the status code and the body of the answer.
func (c client) send(method, path string, header http.Header, body []byte) (int, []byte) {
	c.t.Helper()
	code, answer, err := c.try(method, path, header, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return code, answer
}

func (c client) try(method, path string, header http.Header, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	maps.Copy(req.Header, header)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, answer, err
}

// get reads JSON that must be there.
func (c client) get(path string, into any) {
	c.t.Helper()
	code, body := c.send(http.MethodGet, path, nil, nil)
	if code != http.StatusOK {
		c.t.Fatalf("GET %s: %d: %s", path, code, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
}

// fingerprint is everything in a namespace, for stories in which nothing may
// change.
func (c client) fingerprint(namespace string) string {
	c.t.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/api/v1/namespaces/" + namespace,
		"/api/v1/namespaces/" + namespace + "/configmaps",
		"/api/v1/namespaces/" + namespace + "/secrets",
		"/api/v1/namespaces/" + namespace + "/serviceaccounts",
		"/api/v1/namespaces/" + namespace + "/pods",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace + "/roles",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace + "/rolebindings",
	} {
		var list struct {
			Metadata struct{ UID, ResourceVersion string }
			Items    []json.RawMessage
		}
		c.get(path, &list)
		for _, item := range list.Items {
			all.Write(item)
		}
		if len(list.Items) == 0 && list.Metadata.UID != "" {
			all.WriteString(list.Metadata.UID + list.Metadata.ResourceVersion)
		}
	}
	return all.String()
}
