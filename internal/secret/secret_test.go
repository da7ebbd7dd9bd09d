package secret

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

const value = "correct-horse-battery"

// exposed and hidden differ in how fmt reaches their fields: by method on
// exported ones, by bare reflection on unexported ones.
type exposed struct {
	S String
	B Bytes
}

type hidden struct {
	s String
	b Bytes
	p *String
	l []Bytes
	m map[string]String
}

func TestNothingPrintsTheValue(t *testing.T) {
	t.Parallel()
	s, b := NewString(value), NewBytes([]byte(value))
	subjects := map[string]any{
		"String":        s,
		"Bytes":         b,
		"*String":       &s,
		"*Bytes":        &b,
		"exposed":       exposed{s, b},
		"*exposed":      &exposed{s, b},
		"hidden":        hidden{s, b, &s, []Bytes{b}, map[string]String{"k": s}},
		"*hidden":       &hidden{s, b, &s, []Bytes{b}, map[string]String{"k": s}},
		"slice":         []String{s},
		"map":           map[string]Bytes{"k": b},
		"interface":     []any{s, b},
		"error operand": fmt.Errorf("open %v: %s", s, b),
	}
	for name, subject := range subjects {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%U", "%T", "%10.3s", "%t", "%p", "%z"} {
			check(t, name+" "+verb, fmt.Sprintf(verb, subject))
		}
		check(t, name+" Sprint", fmt.Sprint(subject))
		check(t, name+" Sprintln", fmt.Sprintln(subject))

		for kind, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(w *bytes.Buffer) slog.Handler { return slog.NewTextHandler(w, nil) },
			"json": func(w *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		} {
			var out bytes.Buffer
			slog.New(handler(&out)).Info("message", "key", subject, slog.Group("group", "inner", subject))
			check(t, name+" slog "+kind, out.String())
		}
		if out, err := json.Marshal(subject); err == nil {
			check(t, name+" json", string(out))
		}
		if out, err := xml.Marshal(subject); err == nil {
			check(t, name+" xml", string(out))
		}
	}
}

// check fails if any usual spelling of the value is in out.
func check(t *testing.T, where, out string) {
	t.Helper()
	lower := strings.ToLower(out)
	decimal := strings.Trim(fmt.Sprint([]byte(value)), "[]")
	for _, spelling := range []string{value, hex.EncodeToString([]byte(value)), fmt.Sprintf("% x", value), decimal} {
		if strings.Contains(lower, spelling) {
			t.Errorf("%s shows the value: %s", where, out)
		}
	}
	for _, part := range []string{"correct", "636f7272"} {
		if strings.Contains(lower, part) {
			t.Errorf("%s shows a part of the value: %s", where, out)
		}
	}
}

func TestRedactedText(t *testing.T) {
	t.Parallel()
	subject := exposed{NewString(value), NewBytes([]byte(value))}
	if got, want := fmt.Sprintf("%+v", subject), "{S:[redacted] B:[redacted]}"; got != want {
		t.Errorf("%%+v = %s, want %s", got, want)
	}
	out, err := json.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), `{"S":"[redacted]","B":"[redacted]"}`; got != want {
		t.Errorf("json = %s, want %s", got, want)
	}
	for _, text := range []string{subject.S.String(), subject.B.String(), subject.S.GoString(), subject.B.GoString()} {
		if text != redacted {
			t.Errorf("got %q, want %q", text, redacted)
		}
	}
	for _, m := range []interface{ MarshalText() ([]byte, error) }{subject.S, subject.B} {
		if text, err := m.MarshalText(); err != nil || string(text) != redacted {
			t.Errorf("MarshalText = %q, %v", text, err)
		}
	}
}

func TestUnmarshalIsRefused(t *testing.T) {
	t.Parallel()
	var into exposed
	var typeError *json.UnmarshalTypeError
	if err := json.Unmarshal([]byte(`{"S":"x"}`), &into); !errors.As(err, &typeError) {
		t.Errorf("a String was unmarshalled: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"B":"eA=="}`), &into); !errors.As(err, &typeError) {
		t.Errorf("a Bytes was unmarshalled: %v", err)
	}
}

func TestNotComparable(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{reflect.TypeFor[String](), reflect.TypeFor[Bytes]()} {
		if typ.Comparable() {
			t.Errorf("%v compares with ==", typ)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	texts := []string{"", "a", "b", "ab", value}
	for _, x := range texts {
		for _, y := range texts {
			if got := NewString(x).Equal(NewString(y)); got != (x == y) {
				t.Errorf("String %q equal %q: %v", x, y, got)
			}
			if got := NewBytes([]byte(x)).Equal(NewBytes([]byte(y))); got != (x == y) {
				t.Errorf("Bytes %q equal %q: %v", x, y, got)
			}
		}
	}
	if !(String{}).Equal(NewString("")) || !(Bytes{}).Equal(NewBytes(nil)) {
		t.Error("the zero value is not equal to the empty secret")
	}
}

func TestRevealAndCopy(t *testing.T) {
	t.Parallel()
	in := []byte(value)
	b := NewBytes(in)
	in[0] = 'X'
	if got := string(b.Reveal()); got != value {
		t.Errorf("a change of the input shows in the secret: %q", got)
	}
	if got := NewString(value).Reveal(); got != value {
		t.Errorf("Reveal = %q", got)
	}
	if b.Len() != len(value) || NewString(value).Len() != len(value) {
		t.Error("wrong length")
	}
	if (String{}).Reveal() != "" || (Bytes{}).Reveal() != nil || (String{}).Len() != 0 || (Bytes{}).Len() != 0 {
		t.Error("the zero value is not empty")
	}
}
