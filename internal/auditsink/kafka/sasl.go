package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// SASL is a name and a password, shown to brokers inside TLS.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username  string
	Password  secret.String
}

func (s *SASL) mechanism() (sasl.Mechanism, error) {
	if s.Username == "" || s.Password.Len() == 0 {
		return nil, errors.New("credential has no username or no password")
	}
	switch s.Mechanism {
	case "PLAIN":
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			return plain.Auth{User: s.Username, Pass: s.Password.Reveal()}, nil
		}), nil
	case "SCRAM-SHA-256":
		return bounded{scram.Sha256(s.scram)}, nil
	case "SCRAM-SHA-512":
		return bounded{scram.Sha512(s.scram)}, nil
	}
	return nil, fmt.Errorf("mechanism %q is unknown", s.Mechanism)
}

func (s *SASL) scram(context.Context) (scram.Auth, error) {
	return scram.Auth{User: s.Username, Pass: s.Password.Reveal()}, nil
}

// maxIterations is how often a broker may have us hash: a quarter of a second.
// Kafka itself asks for 4,096 and lets nobody set more than 16,384. Without a
// bound, whoever makes a sink could occupy a processor for as long as they like.
const maxIterations = 500_000

// bounded keeps a SCRAM exchange (RFC 5802) from costing what the broker likes,
// and the signature that was expected of it out of the error.
type bounded struct{ sasl.Mechanism }

// Authenticate implements sasl.Mechanism.
func (b bounded) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	s, first, err := b.Mechanism.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	return &boundedSession{Session: s}, first, nil
}

type boundedSession struct {
	sasl.Session
	started bool // the server's first message was read
}

// Challenge implements sasl.Session.
func (s *boundedSession) Challenge(message []byte) (bool, []byte, error) {
	if !s.started {
		s.started = true
		for part := range bytes.SplitSeq(message, []byte(",")) {
			// No other attribute of the message begins so; what is no number
			// is refused by the exchange itself.
			if n, found := bytes.CutPrefix(part, []byte("i=")); found {
				if i, err := strconv.ParseUint(string(n), 10, 64); err != nil || i > maxIterations {
					return false, nil, fmt.Errorf("the broker asks for more than %d SCRAM iterations", maxIterations)
				}
			}
		}
		return s.Session.Challenge(message)
	}
	done, out, err := s.Session.Challenge(message)
	if err != nil && !bytes.HasPrefix(message, []byte("e=")) {
		err = errors.New("the broker does not prove that it knows the password")
	}
	return done, out, err
}
