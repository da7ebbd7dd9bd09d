package followwire

import (
	"bytes"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	key := Key{"k1", bytes.Repeat([]byte{7}, 32)}
	message, err := AppendKeys(nil, []Key{key})
	if err != nil {
		t.Fatal(err)
	}
	keys, is, err := ParseKeys(message)
	if err != nil || !is || !bytes.Equal(keys["k1"], key.Public) {
		t.Errorf("%v %v %v", keys, is, err)
	}
	if _, is, err := ParseKeys([]byte("gatehouse policy snapshot 1\n")); is || err != nil {
		t.Errorf("a frame is taken for keys: %v", err)
	}
	for name, keys := range map[string][]Key{
		"none": {}, "twice": {key, key}, "short": {{"k1", []byte{1}}}, "nameless": {{"", key.Public}}, "many": make([]Key, 65),
	} {
		bad, err := AppendKeys(nil, keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, is, err := ParseKeys(bad); !is || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"node-1.example": true, "": false, "a b": false, "a\n": false, "é": false, strings.Repeat("a", 253): true, strings.Repeat("a", 254): false,
	} {
		if (CheckName(name) == nil) != ok {
			t.Errorf("%q: %v", name, !ok)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(keysMagic + `{"keys":[{"id":"a","key":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if keys, is, err := ParseKeys(message); err == nil && is && len(keys) == 0 {
			t.Error("a key set without keys")
		}
	})
}
