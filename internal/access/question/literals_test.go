package question

import (
	"slices"
	"strings"
	"testing"
)

func TestLiterals(t *testing.T) {
	t.Parallel()
	got := literals(`request.name in ["101", 'b c'] && request.user == "a\"b" || x == "" && y == "open`)
	if want := []string{"101", "b c", `a"b`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzLiterals(f *testing.F) {
	f.Add(`a == "b" && c in ['d', "\x41\\"]`)
	f.Add(`"\`)
	f.Fuzz(func(t *testing.T, text string) {
		total := 0
		for _, l := range literals(text) {
			if l == "" || len(l) > maxLiteral {
				t.Errorf("%q", l)
			}
			total++
		}
		if total > strings.Count(text, `"`)+strings.Count(text, "'") {
			t.Errorf("%d texts in %q", total, text)
		}
	})
}
