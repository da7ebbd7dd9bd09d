// Package s3 delivers events as objects of JSON lines into a bucket of an
// object store that speaks S3 with signature version 4.
//
// Each batch becomes one object, named by day, log and the first and last index
// in it, so that what is sent again after a crash overwrites itself or overlaps
// and never contradicts.
//
// It owns: one PUT and its signature, which is all that a sink needs of S3. It
// refuses: reading, listing and removing.
package s3

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// maxAnswer bounds what is read of a store's answer.
const maxAnswer = 4096

// Config describes the bucket. Prefix may be empty.
type Config struct {
	Endpoint, Region, Bucket, Prefix string
	AccessKeyID                      string
	SecretAccessKey                  secret.String
	// Log is the id of the log.
	Log    string
	Client *http.Client
	Clock  func() time.Time
}

// Target is a sink.Target.
type Target struct {
	cfg  Config
	base *url.URL
}

// New checks the configuration.
func New(cfg Config) (*Target, error) {
	base, err := url.Parse(cfg.Endpoint)
	if err != nil || base.Host == "" {
		return nil, errors.New("audit s3: endpoint is not a URL")
	}
	if cfg.Bucket == "" || cfg.Region == "" || cfg.AccessKeyID == "" || cfg.SecretAccessKey.Len() == 0 || cfg.Log == "" || cfg.Client == nil || cfg.Clock == nil {
		return nil, errors.New("audit s3: incomplete configuration")
	}
	return &Target{cfg, base}, nil
}

// Deliver implements sink.Target. Any 2xx answer counts as taken.
func (t *Target) Deliver(ctx context.Context, batch []sink.Event) error {
	if len(batch) == 0 {
		return nil
	}
	var body []byte
	for _, e := range batch {
		body = e.Annotated().AppendJSON(body)
		body = append(body, '\n')
	}
	first, last := batch[0], batch[len(batch)-1]
	name := fmt.Sprintf("%s%s/%s/%020d-%020d.jsonl", t.cfg.Prefix, first.At.UTC().Format("2006/01/02"), t.cfg.Log, first.Index, last.Index)
	target := *t.base
	target.Path = strings.TrimSuffix(target.Path, "/") + "/" + t.cfg.Bucket + "/" + name
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("audit s3: %w", err)
	}
	req.Header.Set("Content-Type", "application/jsonl")
	t.sign(req, body, t.cfg.Clock())
	resp, err := t.cfg.Client.Do(req)
	if err != nil {
		return fmt.Errorf("audit s3: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("audit s3: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("audit s3: store answered %d", resp.StatusCode)
	}
	return nil
}

// sign adds signature version 4 over every header that is set, the host and
// the body's hash.
func (t *Target) sign(req *http.Request, body []byte, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	day := stamp[:8]
	hash := sha256.Sum256(body)
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))

	headers := map[string]string{"host": req.URL.Host}
	names := []string{"host"}
	for k, v := range req.Header {
		name := strings.ToLower(k)
		names = append(names, name)
		headers[name] = strings.TrimSpace(strings.Join(v, ","))
	}
	slices.Sort(names)
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n\n", req.Method, escapePath(req.URL.Path))
	for _, name := range names {
		fmt.Fprintf(&canonical, "%s:%s\n", name, headers[name])
	}
	signed := strings.Join(names, ";")
	fmt.Fprintf(&canonical, "\n%s\n%x", signed, hash)

	scope := day + "/" + t.cfg.Region + "/s3/aws4_request"
	request := sha256.Sum256([]byte(canonical.String()))
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(request[:])
	key := []byte("AWS4" + t.cfg.SecretAccessKey.Reveal())
	for _, part := range []string{day, t.cfg.Region, "s3", "aws4_request", text} {
		key = mac(key, part)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%x", t.cfg.AccessKeyID, scope, signed, key))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// escapePath encodes everything but unreserved characters and slashes, as the
// signature wants it.
func escapePath(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c == '/' || c == '-' || c == '_' || c == '.' || c == '~' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
