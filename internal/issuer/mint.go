package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// Ref names one object by name and UID.
type Ref struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// Claims are what a token will say. Whoever fills them in has checked that the
// account and the objects exist; [Requests] does.
type Claims struct {
	Namespace string
	Account   Ref
	// Audiences, at least one.
	Audiences []string
	// Lifetime is capped by the issuer.
	Lifetime time.Duration
	// WarnAfter, if positive, is when the holder should have renewed.
	WarnAfter time.Duration
	// At most one of Pod, Secret and Node binds the token. Beside a pod, Node
	// says where it runs and may lack the UID.
	Pod, Secret, Node *Ref
	// Container narrows a pod's token to one of its containers.
	Container string
	// Origin is the line of credentials that the token was asked for with; see
	// package origin.
	Origin []string
	// Site binds the token to a connected site, or to a pod or node of it,
	// instead of an object of the control plane.
	Site *SiteRef
	// Attestations by key, as the request has them.
	Attestations map[string][]string
}

// Token is a token just minted.
type Token struct {
	Text secret.String
	// ID is its jti; "JTI=" + ID is the credential id.
	ID       string
	IssuedAt time.Time
	Expires  time.Time
}

// CredentialID returns the id under which uses of the token are recorded and
// can be banned.
func (t Token) CredentialID() string { return "JTI=" + t.ID }

// Bounds on what a token can carry, so that it stays one that verifiers read.
const (
	maxAudiences = 16
	maxAudience  = 512
)

var errBinding = errors.New("internal error, token can only be bound to one object type")

// payload is the JSON of a token, as Kubernetes lays it out.
type payload struct {
	Audiences  []string         `json:"aud"`
	Expires    int64            `json:"exp"`
	IssuedAt   int64            `json:"iat"`
	Issuer     string           `json:"iss"`
	ID         string           `json:"jti"`
	Kubernetes kubernetesClaims `json:"kubernetes.io"`
	Gatehouse  *gatehouseClaims `json:"gatehouse.dev,omitempty"`
	NotBefore  int64            `json:"nbf"`
	Subject    string           `json:"sub"`
}

type kubernetesClaims struct {
	Attestations   map[string][]string `json:"attestations,omitempty"`
	Namespace      string              `json:"namespace"`
	Node           *Ref                `json:"node,omitempty"`
	Pod            *Ref                `json:"pod,omitempty"`
	Secret         *Ref                `json:"secret,omitempty"`
	ServiceAccount Ref                 `json:"serviceaccount"`
	WarnAfter      int64               `json:"warnafter,omitempty"`
}

type gatehouseClaims struct {
	Container string   `json:"container,omitempty"`
	Origin    []string `json:"origin,omitempty"`
	Site      *SiteRef `json:"site,omitempty"`
}

// SiteRef names a connected site, and at most one of a pod and a node of it.
type SiteRef struct {
	Ref
	// Namespace is that of the pod, by its name at the site.
	Namespace string `json:"namespace,omitempty"`
	Pod       *Ref   `json:"pod,omitempty"`
	Node      *Ref   `json:"node,omitempty"`
}

func (s *SiteRef) whole() bool {
	ok := s.Name != "" && s.UID != "" && (s.Pod == nil || s.Node == nil) && (s.Pod != nil) == (s.Namespace != "")
	for _, r := range []*Ref{s.Pod, s.Node} {
		ok = ok && (r == nil || r.Name != "" && r.UID != "")
	}
	return ok
}

// Mint makes a token that is good from now on.
func (i *Issuer) Mint(_ context.Context, c Claims) (Token, error) {
	s := i.current.Load()
	if s == nil {
		return Token{}, errNoKeys
	}
	if err := c.check(); err != nil {
		return Token{}, fault.Wrap(fault.Internal, "mint token", err)
	}
	now := i.now().Truncate(time.Second)
	expires := now.Add(min(c.Lifetime, i.maxLifetime))
	id := uuid.NewString()
	body := payload{
		Audiences: c.Audiences,
		Expires:   expires.Unix(),
		IssuedAt:  now.Unix(),
		NotBefore: now.Unix(),
		Issuer:    i.url,
		ID:        id,
		Subject:   "system:serviceaccount:" + c.Namespace + ":" + c.Account.Name,
		Kubernetes: kubernetesClaims{
			Namespace: c.Namespace, ServiceAccount: c.Account,
			Pod: c.Pod, Secret: c.Secret, Node: c.Node,
		},
	}
	if c.WarnAfter > 0 {
		body.Kubernetes.WarnAfter = now.Add(c.WarnAfter).Unix()
	}
	for key, values := range c.Attestations {
		if body.Kubernetes.Attestations == nil {
			body.Kubernetes.Attestations = map[string][]string{}
		}
		body.Kubernetes.Attestations[AttestationPrefix+key] = values
	}
	if c.Container != "" || len(c.Origin) > 0 || c.Site != nil {
		body.Gatehouse = &gatehouseClaims{Container: c.Container, Origin: c.Origin, Site: c.Site}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return Token{}, fmt.Errorf("mint token: %w", err)
	}
	text, err := s.signer.Sign(raw)
	if err != nil {
		return Token{}, fmt.Errorf("mint token: %w", err)
	}
	return Token{Text: secret.NewString(text), ID: id, IssuedAt: now, Expires: expires}, nil
}

// check refuses claims that no token may carry, whoever asks.
func (c Claims) check() error {
	switch {
	case c.Namespace == "" || c.Account.Name == "" || c.Account.UID == "":
		return errors.New("the service account is incomplete")
	case len(c.Audiences) == 0 || len(c.Audiences) > maxAudiences || slices.Contains(c.Audiences, ""):
		return fmt.Errorf("a token needs 1 to %d audiences, none empty", maxAudiences)
	case c.Lifetime <= 0:
		return errors.New("the lifetime is not positive")
	case c.Secret != nil && (c.Pod != nil || c.Node != nil), c.Site != nil && (c.Secret != nil || c.Pod != nil || c.Node != nil):
		return errBinding
	case c.Site != nil && !c.Site.whole():
		return errors.New("a bound site is incomplete")
	case !origin.Check(c.Origin):
		return errors.New("the line of credentials is malformed")
	case c.Container != "" && c.Pod == nil:
		return errors.New("a container without its pod")
	case c.Pod != nil && (c.Pod.Name == "" || c.Pod.UID == ""),
		c.Secret != nil && (c.Secret.Name == "" || c.Secret.UID == ""),
		c.Node != nil && (c.Node.Name == "" || c.Node.UID == "" && c.Pod == nil):
		return errors.New("a bound object is incomplete")
	}
	return nil
}
