package signer

import (
	"testing"

	"google.golang.org/protobuf/proto"
	externaljwt "k8s.io/externaljwt/apis/v1"
)

// FuzzSignRequest reads what the generated message reads, and nothing else.
func FuzzSignRequest(f *testing.F) {
	whole, err := proto.Marshal(&externaljwt.SignJWTRequest{Claims: "e30"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{
		nil, whole, whole[:3],
		append(whole, 0x0a, 1, 'x'),  // twice: the last counts
		append(whole, 0x12, 1, 'x'),  // a field that is not known
		append(whole, 0x12, 9, 'x'),  // one that is cut off
		{0x08, 1}, {0x0c}, {0x02, 0}, // another type, the end of no group, field 0
		{0x0a, 1, 0xff}, // not UTF-8
		{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00}, // longer than the message
		{0x13, 0x13, 0x14, 0x14, 0x0a, 1, 'a'},     // groups in groups
		{0x95, 0xb6, 0xb7, 0xb6, 0x30, 0, 0, 0, 0}, // a field beyond the last number
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		claims, err := signRequest(in)
		var want externaljwt.SignJWTRequest
		if wantErr := proto.Unmarshal(in, &want); (err == nil) != (wantErr == nil) || err == nil && claims != want.Claims {
			t.Errorf("%x: %q %v, want %q %v", in, claims, err, want.Claims, wantErr)
		}
	})
}
