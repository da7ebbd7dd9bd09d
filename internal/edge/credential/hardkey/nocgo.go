//go:build !cgo

package hardkey

import (
	"errors"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

var errNoCgo = errors.New("this gatehouse-edge was built without cgo, which PKCS#11 modules need; TPM keys work")

func openPKCS11(pkcs11URI, secret.String) (Key, error)   { return nil, errNoCgo }
func createPKCS11(pkcs11URI, secret.String) (Key, error) { return nil, errNoCgo }
