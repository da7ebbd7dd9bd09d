// Package hardkey signs with private keys that cannot leave a PKCS#11 token or
// a TPM 2.0.
//
// It owns: the names of such keys, pkcs11: URIs (RFC 7512) and tpm: ones of our
// own, and the check that a key really cannot be taken out. It refuses: keys
// that their token would hand out, PINs in a URI or a file that others can read,
// and modules that others can write, because a module runs inside this process.
// The control plane does not link it; see internal/archtest.
//
//	pkcs11:token=people;object=ada?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/home/ada/.pin
//	tpm:/dev/tpmrm0?handle=0x81010001
//
// PKCS#11 modules are C: a program built without cgo says so when it meets such
// a URI. Start at [Open] and [Create].
package hardkey
