package signer

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gatehouse-dev/gatehouse/internal/edge/unary"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/signwire"
)

// The messages of v1.ExternalJWTSigner are written by hand: the package that
// holds the generated ones links the whole of gRPC, see [unary].

// Methods returns the service, v1.ExternalJWTSigner.
func (s *Signer) Methods() map[string]unary.Method {
	const service = "/v1.ExternalJWTSigner/"
	return map[string]unary.Method{
		service + "Sign": func(ctx context.Context, in []byte) ([]byte, error) {
			claims, err := signRequest(in)
			if err != nil {
				return nil, status.Error(codes.InvalidArgument, err.Error())
			}
			out, err := s.sign(ctx, claims)
			if err != nil {
				return nil, err
			}
			return signResponse(out), nil
		},
		service + "FetchKeys": func(ctx context.Context, _ []byte) ([]byte, error) {
			set, err := s.keys(ctx)
			if err != nil {
				return nil, err
			}
			return keysResponse(set, s.cfg.Refresh), nil
		},
		service + "Metadata": func(ctx context.Context, _ []byte) ([]byte, error) {
			set, err := s.keys(ctx)
			if err != nil {
				return nil, err
			}
			return appendInt(nil, 1, set.MaxLifetimeSeconds), nil
		},
	}
}

// signRequest reads SignJWTRequest: the claims are field 1. Fields that are not
// known are passed over, as protobuf wants it.
func signRequest(in []byte) (claims string, err error) {
	for len(in) > 0 {
		number, kind, n := protowire.ConsumeTag(in)
		if n < 0 || !number.IsValid() {
			return "", errors.New("the message is not a SignJWTRequest")
		}
		value := in[n:]
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return "", errors.New("the message is not a SignJWTRequest")
		}
		in = value[n:]
		if number != 1 || kind != protowire.BytesType {
			continue
		}
		raw, _ := protowire.ConsumeBytes(value) // whole, as was just seen
		if !utf8.Valid(raw) {
			return "", errors.New("the claims are not UTF-8")
		}
		claims = string(raw)
	}
	return claims, nil
}

// signResponse writes SignJWTResponse: header 1, signature 2.
func signResponse(out *signwire.SignResponse) []byte {
	return appendBytes(appendBytes(nil, 1, []byte(out.Header)), 2, []byte(out.Signature))
}

// keysResponse writes FetchKeysResponse: keys 1 (key_id 1, key 2), data_timestamp
// 2 (a Timestamp: seconds 1, nanos 2), refresh_hint_seconds 3.
func keysResponse(set *signwire.KeysResponse, refresh time.Duration) []byte {
	var b []byte
	for _, k := range set.Keys {
		b = appendBytes(b, 1, appendBytes(appendBytes(nil, 1, []byte(k.ID)), 2, k.Key))
	}
	b = appendBytes(b, 2, appendInt(appendInt(nil, 1, set.At.Unix()), 2, int64(set.At.Nanosecond())))
	return appendInt(b, 3, int64(refresh/time.Second))
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func appendInt(b []byte, field protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(value))
}
