package kubeapi

import (
	"bytes"
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/storage/value"
)

// Sealer encrypts what must not be readable in etcd.
type Sealer interface {
	// Seal encrypts plaintext and binds it to aad.
	Seal(plaintext, aad []byte) ([]byte, error)
	// Open is the reverse of Seal; it fails for any other aad.
	Open(sealed, aad []byte) ([]byte, error)
	// Stale reports whether sealed should be written again under a newer key.
	Stale(sealed []byte) bool
}

// sealedPrefix marks sealed values. It cannot begin a stored object, which is
// JSON or carries the protobuf envelope's own mark.
var sealedPrefix = []byte("gatehouse:sealed:v1:")

// transformer seals the values of one kind. The authenticated data is the etcd
// key, so that a value copied under another key does not open.
type transformer struct{ sealer Sealer }

var _ value.Transformer = transformer{}

func (t transformer) TransformFromStorage(_ context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	sealed, ok := bytes.CutPrefix(data, sealedPrefix)
	if !ok {
		// Accepting clear text would let whoever can write to etcd plant it.
		return nil, false, fmt.Errorf("stored value is not sealed")
	}
	plain, err := t.sealer.Open(sealed, dataCtx.AuthenticatedData())
	if err != nil {
		return nil, false, fmt.Errorf("open sealed value: %w", err)
	}
	return plain, t.sealer.Stale(sealed), nil
}

func (t transformer) TransformToStorage(_ context.Context, data []byte, dataCtx value.Context) ([]byte, error) {
	sealed, err := t.sealer.Seal(data, dataCtx.AuthenticatedData())
	if err != nil {
		return nil, fmt.Errorf("seal value: %w", err)
	}
	return append(bytes.Clone(sealedPrefix), sealed...), nil
}
