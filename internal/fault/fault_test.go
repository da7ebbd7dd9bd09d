package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindAndPublicText(t *testing.T) {
	t.Parallel()
	denied := New(Denied, "user may not read nodes")
	cases := []struct {
		name   string
		err    error
		kind   Kind
		public string
		text   string
	}{
		{"nil", nil, Internal, "internal error", ""},
		{"foreign error", io.EOF, Internal, "internal error", "EOF"},
		{"plain", denied, Denied, "user may not read nodes", "user may not read nodes"},
		{"formatted", Newf(Invalid, "spec.%s: must be at most %d", "ttl", 5), Invalid, "spec.ttl: must be at most 5", "spec.ttl: must be at most 5"},
		{"context words stay private", fmt.Errorf("row 7 of table t: %w", denied), Denied, "user may not read nodes", "row 7 of table t: user may not read nodes"},
		{"cause stays private", Wrap(Unavailable, "storage does not answer", io.ErrUnexpectedEOF), Unavailable, "storage does not answer", "storage does not answer: unexpected EOF"},
		{"outermost wins", Wrap(NotFound, "no such host", denied), NotFound, "no such host", "no such host: user may not read nodes"},
		{"internal hides an inner kind", Wrap(Internal, "decode row", denied), Internal, "internal error", "decode row: user may not read nodes"},
		{"internal text withheld", New(Internal, "secret place"), Internal, "internal error", "secret place"},
		{"joined", errors.Join(io.EOF, denied), Denied, "user may not read nodes", "EOF\nuser may not read nodes"},
		{"nil cause is still an error", Wrap(Conflict, "revision is gone", nil), Conflict, "revision is gone", "revision is gone"},
		{"no public text", Wrap(Invalid, "", io.EOF), Invalid, "internal error", "EOF"},
		{"number outside the list", New(Kind(200), "never a kind"), Internal, "internal error", "never a kind"},
		{"wrapped outside the list", Wrap(Kind(200), "x", io.EOF), Internal, "internal error", "x: EOF"},
		{"formatted outside the list", Newf(Kind(200), "x"), Internal, "internal error", "x"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := KindOf(tc.err); got != tc.kind {
				t.Errorf("KindOf = %v, want %v", got, tc.kind)
			}
			if got := Public(tc.err); got != tc.public {
				t.Errorf("Public = %q, want %q", got, tc.public)
			}
			if tc.err != nil && tc.err.Error() != tc.text {
				t.Errorf("Error = %q, want %q", tc.err.Error(), tc.text)
			}
		})
	}
}

func TestUnwrapReachesTheCause(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("load: %w", Wrap(Unavailable, "storage does not answer", io.EOF))
	if !errors.Is(err, io.EOF) {
		t.Error("errors.Is does not find the cause")
	}
}

func TestFaultsAreSentinels(t *testing.T) {
	t.Parallel()
	a, b := New(NotFound, "same words"), New(NotFound, "same words")
	if !errors.Is(fmt.Errorf("get: %w", a), a) {
		t.Error("a fault does not match itself")
	}
	if errors.Is(a, b) {
		t.Error("two faults with the same words match each other")
	}
}

func TestKindsAreClosedAndNamed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range Kinds() {
		name := k.String()
		if name == "" || seen[name] {
			t.Errorf("kind %d has the empty or repeated name %q", k, name)
		}
		seen[name] = true
	}
	if len(seen) != int(Unavailable)+1 {
		t.Errorf("%d kinds listed, want %d", len(seen), Unavailable+1)
	}
	var zero Kind
	if zero != Internal {
		t.Error("the zero kind is not Internal")
	}
	if got := Kind(200).String(); got != "internal" {
		t.Errorf("a number outside the list is named %q", got)
	}
}
