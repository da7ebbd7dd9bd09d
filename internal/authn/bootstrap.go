package authn

import (
	"context"
	"crypto/subtle"
	"slices"
	"strings"
	"time"
)

// Names and keys of bootstrap token secrets, as kubeadm writes them.
const (
	// BootstrapSecretType is the type of the secret.
	BootstrapSecretType = "bootstrap.kubernetes.io/token"
	// BootstrapSecretPrefix and a token's id make its name, in kube-system.
	BootstrapSecretPrefix = "bootstrap-token-"

	bootstrapUser  = "system:bootstrap:"
	bootstrapGroup = "system:bootstrappers"

	bootstrapID      = "token-id"
	bootstrapSecret  = "token-secret"
	bootstrapExpires = "expiration"
	bootstrapGroups  = "auth-extra-groups"
	bootstrapUsage   = "usage-bootstrap-authentication"
)

// BootstrapSecret is the secret of one bootstrap token.
type BootstrapSecret struct {
	Type string
	// Deleted is set once it has a deletion timestamp.
	Deleted bool
	Data    map[string][]byte
}

// BootstrapTokens finds the secret kube-system/bootstrap-token-<id>. It is
// asked on every use of a token and must answer from memory.
type BootstrapTokens interface {
	BootstrapSecret(ctx context.Context, id string) (secret BootstrapSecret, found bool, err error)
}

const (
	bootstrapIDLength     = 6
	bootstrapSecretLength = 16
)

// isBootstrapToken matches [a-z0-9]{6}\.[a-z0-9]{16}.
func isBootstrapToken(token string) bool {
	return len(token) == bootstrapIDLength+1+bootstrapSecretLength && token[bootstrapIDLength] == '.' &&
		isLowerAlnum(token[:bootstrapIDLength]) && isLowerAlnum(token[bootstrapIDLength+1:])
}

func isLowerAlnum(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// newBootstrap returns the source of bootstrap tokens. They are compared on
// every use: it costs next to nothing, and a deleted secret ends them at once.
func (c *Chain) newBootstrap(tokens BootstrapTokens) *source {
	src := &source{method: BootstrapToken, name: "bootstrap", anyAudience: true}
	src.verify = func(ctx context.Context, token string, _ []string, now time.Time) (*verified, error) {
		id, given := token[:bootstrapIDLength], token[bootstrapIDLength+1:]
		secret, found, err := tokens.BootstrapSecret(ctx, id)
		if err != nil {
			return nil, err
		}
		if !found || secret.Deleted || secret.Type != BootstrapSecretType {
			return nil, refuse(Ended, "bootstrap token %q does not exist", id)
		}
		want := secret.Data[bootstrapSecret]
		switch {
		case string(secret.Data[bootstrapID]) != id:
			return nil, refuse(Malformed, "bootstrap token %q: its secret holds another id", id)
		case len(want) != bootstrapSecretLength || subtle.ConstantTimeCompare(want, []byte(given)) != 1:
			// A wrong guess must cost the next request nothing and tell nothing.
			return nil, refuse(UnknownKey, "bootstrap token %q: wrong secret", id)
		case string(secret.Data[bootstrapUsage]) != "true":
			return nil, refuse(Refused, "bootstrap token %q is not for authentication", id)
		}
		expires, err := bootstrapExpiry(secret, now)
		if err != nil {
			return nil, err
		}
		groups, err := bootstrapExtraGroups(secret)
		if err != nil {
			return nil, err
		}
		who, err := newAccount(account{name: bootstrapUser + id, groups: groups, credential: "BOOTSTRAP=" + id})
		if err != nil {
			return nil, refuseBecause(ReservedName, "bootstrap token", err)
		}
		return &verified{who: who, src: src, expires: expires, once: true}, nil
	}
	return src
}

func bootstrapExpiry(secret BootstrapSecret, now time.Time) (int64, error) {
	text := string(secret.Data[bootstrapExpires])
	if text == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, refuse(Malformed, "bootstrap token: its expiration is no RFC 3339 time")
	}
	if !now.Before(at) {
		return 0, refuse(Expired, "bootstrap token has expired")
	}
	return max(at.Unix(), 1), nil
}

// bootstrapExtraGroups accepts only groups that say what they are.
func bootstrapExtraGroups(secret BootstrapSecret) ([]string, error) {
	groups := []string{bootstrapGroup}
	text := string(secret.Data[bootstrapGroups])
	if text == "" {
		return groups, nil
	}
	for _, group := range strings.Split(text, ",") {
		name, ok := strings.CutPrefix(group, bootstrapGroup+":")
		if !ok || !isBootstrapGroup(name) {
			return nil, refuse(ReservedName, "bootstrap token: group %.300q is not allowed", group)
		}
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	return groups, nil
}

// isBootstrapGroup matches [a-z0-9:-]{0,255}[a-z0-9].
func isBootstrapGroup(name string) bool {
	if name == "" || len(name) > 256 || !isLowerAlnum(name[len(name)-1:]) {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != ':' && c != '-' {
			return false
		}
	}
	return true
}
