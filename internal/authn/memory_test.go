package authn

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

type stamped struct {
	name string
	at   uint32
}

func (s *stamped) stamp() uint32 { return s.at }

func digestOf(n int) digest {
	sum := sha256.Sum256([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	return digest(sum[:16])
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := newMemory[*stamped](64, 10)
	a := &stamped{"a", 100}
	m.put(digestOf(1), a)
	for now, want := range map[uint32]bool{100: true, 109: true} {
		if got, ok := m.get(digestOf(1), now); ok != want || ok && got != a {
			t.Errorf("at %d: %v, %v", now, got, ok)
		}
	}
	if _, ok := m.get(digestOf(2), 100); ok {
		t.Error("an unknown digest has a value")
	}
	if _, ok := m.get(digestOf(1), 110); ok {
		t.Error("good for too long")
	}
	if _, ok := m.get(digestOf(1), 100); ok {
		t.Error("what is no longer fresh was not forgotten")
	}
	m.put(digestOf(1), a)
	if _, ok := m.get(digestOf(1), 99); ok {
		t.Error("good before it was verified: the clock went back")
	}
	m.put(digestOf(1), a)
	m.drop(digestOf(1))
	if _, ok := m.get(digestOf(1), 100); ok {
		t.Error("dropped and still there")
	}
}

func TestMemoryStaysBounded(t *testing.T) {
	t.Parallel()
	m := newMemory[*stamped](64, 1000)
	if len(m.sets)*ways != 64 {
		t.Fatalf("%d places", len(m.sets)*ways)
	}
	for i := range 10_000 {
		m.put(digestOf(i), &stamped{fmt.Sprint(i), uint32(100 + i/100)})
	}
	held, newest := 0, 0
	for i := range 10_000 {
		if v, ok := m.get(digestOf(i), 210); ok {
			held++
			if v.name != fmt.Sprint(i) {
				t.Fatalf("digest %d has the value of %s", i, v.name)
			}
			if i >= 9000 {
				newest++
			}
		}
	}
	if held != 64 || newest != 64 {
		t.Errorf("%d values held, %d of them new; want all places with the newest", held, newest)
	}
	m.sweep(10_000)
	for i := range 10_000 {
		if _, ok := m.get(digestOf(i), 210); ok {
			t.Fatal("swept and still there")
		}
	}
}

func TestMemoryReplaces(t *testing.T) {
	t.Parallel()
	// One set: every digest meets every other.
	m := newMemory[*stamped](ways, 1000)
	for i := range ways {
		m.put(digestOf(i), &stamped{fmt.Sprint(i), uint32(100 + i)})
	}
	m.drop(digestOf(0))
	m.put(digestOf(7), &stamped{"again", 200})
	found := 0
	for i := range m.sets[0] {
		if m.sets[0][i].key == digestOf(7) {
			found++
		}
	}
	if v, ok := m.get(digestOf(7), 200); found != 1 || !ok || v.name != "again" {
		t.Errorf("digest stands %d times, value %v", found, v)
	}
	m.put(digestOf(50), &stamped{"new", 200})
	m.put(digestOf(51), &stamped{"newer", 200})
	if _, ok := m.get(digestOf(1), 200); ok {
		t.Error("the oldest was not the one replaced")
	}
	if _, ok := m.get(digestOf(2), 200); !ok {
		t.Error("one too many was replaced")
	}
}

func TestHasherKeepsNoToken(t *testing.T) {
	t.Parallel()
	h, other := newHasher(), newHasher()
	token := strings.Repeat("token", 500)
	d := h.digest(token)
	if d != h.digest(token) || d == h.digest(token+"x") || d == other.digest(token) {
		t.Error("a digest is not that of the token and the process")
	}
	for range 100 {
		buffer := h.buffers.Get().(*[]byte)
		full := (*buffer)[:cap(*buffer)]
		if strings.Contains(string(full), "token") || strings.Contains(string(full), string(h.secret[:8])) {
			t.Fatal("a buffer still holds a token or the secret")
		}
	}
}

func TestInterned(t *testing.T) {
	t.Parallel()
	var n interned[*int]
	built := 0
	get := func(key string) *int {
		v, err := n.get(key, func() (*int, error) { built++; return &built, nil })
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	get("a")
	get("a")
	if built != 1 {
		t.Errorf("built %d times", built)
	}
	failure := errors.New("no")
	if _, err := n.get("b", func() (*int, error) { return nil, failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	for i := range 3 * generationSize {
		get(fmt.Sprint(i))
	}
	if len(n.young)+len(n.old) > 2*generationSize {
		t.Errorf("%d values kept", len(n.young)+len(n.old))
	}
	before := built
	get(fmt.Sprint(3*generationSize - 1))
	if get("a"); built != before+1 {
		t.Errorf("%d values built again, want only the one long unused", built-before)
	}
}

func FuzzPack(f *testing.F) {
	f.Add("0a0b0c0d-0000-4000-8000-00000000002a", "pod", "poduid", "", "", "main", int64(5))
	f.Add(strings.Repeat("j", 253), strings.Repeat("j", 254), strings.Repeat("j", 255), strings.Repeat("j", 1024), "0A0B0C0D-0000-4000-8000-00000000002A", "0a0b0c0d-0000-4000-8000-0000000000-a", int64(0))
	f.Fuzz(func(t *testing.T, id, podName, podUID, secretName, secretUID, container string, warn int64) {
		for _, s := range []string{id, podName, podUID, secretName, secretUID, container} {
			if len(s) > maxClaim {
				return
			}
		}
		in := boundClaims{id, podName, podUID, secretName, secretUID, container, warn}
		packed := pack(in)
		if out := unpack(packed); out != in {
			t.Fatalf("%+v became %+v", in, out)
		}
		if unpackID(packed) != id {
			t.Fatalf("id %q became %q", id, unpackID(packed))
		}
		field, _ := nextField(packed)
		if !field.is(id) || field.is(id+"x") || field.is("0a0b0c0d-0000-4000-8000-00000000002b") && id != "0a0b0c0d-0000-4000-8000-00000000002b" {
			t.Fatalf("comparison of %q", id)
		}
	})
}

// What is remembered of a token shares no memory with the text it came in.
func TestCloneAll(t *testing.T) {
	t.Parallel()
	body := strings.Clone("token audience")
	got := cloneAll([]string{body[6:]})
	if len(got) != 1 || got[0] != "audience" || unsafe.StringData(got[0]) == unsafe.StringData(body[6:]) {
		t.Errorf("got %q", got)
	}
	if cloneAll(nil) != nil {
		t.Error("nothing became something")
	}
}
