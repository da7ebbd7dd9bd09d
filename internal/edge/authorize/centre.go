package authorize

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	// tokenTimeout is how long the control plane may think about a token:
	// beyond it, what it said before counts.
	tokenTimeout = 2 * time.Second
	sendTimeout  = 30 * time.Second
	maxAnswer    = 1 << 20
)

// Remote is the control plane over the doors of a site.
type Remote struct {
	// Servers are https URLs of replicas, Site the name of the site.
	Servers []string
	Site    string
	// Client shows the certificate of the site.
	Client *http.Client
}

// Token implements [Centre].
func (r Remote) Token(ctx context.Context, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	in, err := json.Marshal(authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}, Spec: *spec,
	})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, fault.Wrap(fault.Internal, "", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	out, err := r.post(ctx, "authenticate", in)
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	var review authenticationv1.TokenReview
	if err := json.Unmarshal(out, &review); err != nil {
		return authenticationv1.TokenReviewStatus{}, fault.Wrap(fault.Unavailable, "the control plane gave no answer that can be read", err)
	}
	return review.Status, nil
}

// Send hands events to the record.
func (r Remote) Send(ctx context.Context, events []json.RawMessage) error {
	var b bytes.Buffer
	b.WriteString(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e)
	}
	b.WriteString("]}")
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	_, err := r.post(ctx, "audit", b.Bytes())
	return err
}

// post asks one replica after the other until one answers. What the control
// plane refuses as such is of kind Invalid or Denied; everything else that is
// no answer is of kind Unavailable.
func (r Remote) post(ctx context.Context, door string, body []byte) ([]byte, error) {
	var last error
	for _, server := range r.Servers {
		out, err := r.postTo(ctx, server, door, body)
		if err == nil || fault.KindOf(err) != fault.Unavailable {
			return out, err
		}
		last = err
	}
	return nil, last
}

func (r Remote) postTo(ctx context.Context, server, door string, body []byte) ([]byte, error) {
	away := func(err error) error {
		return fault.Wrap(fault.Unavailable, "the control plane does not answer", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(server, "/")+"/sites/"+r.Site+"/"+door, bytes.NewReader(body))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, away(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, away(err)
	}
	said := func() error { return fmt.Errorf("door %s answered %d: %.300q", door, resp.StatusCode, out) }
	switch resp.StatusCode {
	case http.StatusOK:
		return out, nil
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return nil, fault.Wrap(fault.Invalid, "the control plane refuses the request", said())
	case http.StatusForbidden:
		return nil, fault.Wrap(fault.Denied, "the control plane refuses this site", said())
	}
	return nil, away(said())
}
