package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	cases := map[string]any{
		`{}`:                             map[string]any{},
		` [ ] `:                          []any{},
		`{"a":1,"A":2}`:                  map[string]any{"a": json.Number("1"), "A": json.Number("2")},
		`{"a":{"a":{"a":null}}}`:         map[string]any{"a": map[string]any{"a": map[string]any{"a": nil}}},
		`"\u00e9\n\"\\\/\b\f\r\t"`:       "é\n\"\\/\b\f\r\t",
		`"\ud83d\ude00"`:                 "😀",
		`[0,-0,1.5e+3,1E-2,true,false]`:  []any{json.Number("0"), json.Number("-0"), json.Number("1.5e+3"), json.Number("1E-2"), true, false},
		"\"caf\u00e9\"":                  "café",
		nested("[", "]", MaxDepth):       nest(MaxDepth),
		`{"aud":["x","y"],"exp":1700.5}`: map[string]any{"aud": []any{"x", "y"}, "exp": json.Number("1700.5")},
	}
	for in, want := range cases {
		v, err := Parse([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := plain(v); !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %#v, want %#v", in, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, `"k%d":0,`, i)
	}
	cases := map[string]string{
		`{"iss":"a","iss":"b"}`:                 "twice",
		`{"x":{"a":1,"b":2,"a":3}}`:             "twice",
		`{"\u0069ss":1,"iss":2}`:                "twice",
		`{` + many.String() + `"k7":1}`:         "twice",
		`{"a":1} x`:                             "after the value",
		`{"a":1}{}`:                             "after the value",
		``:                                      "unexpected end",
		`{"a"`:                                  "unexpected end",
		`{"a":`:                                 "unexpected end",
		`[1,`:                                   "unexpected end",
		`"abc`:                                  "unexpected end",
		`"abc\`:                                 "invalid escape",
		`"abc\n`:                                "unexpected end",
		`{"a":1,}`:                              "unexpected character",
		`{a:1}`:                                 "unexpected character",
		`{'a':1}`:                               "unexpected character",
		`[1,]`:                                  "unexpected character",
		`nul`:                                   "unexpected character",
		`tru3`:                                  "unexpected character",
		`NaN`:                                   "unexpected character",
		`+1`:                                    "unexpected character",
		`01`:                                    "after the value",
		`1.`:                                    "invalid number",
		`-`:                                     "invalid number",
		`1e`:                                    "invalid number",
		`"\x41"`:                                "invalid escape",
		`"\u12"`:                                "invalid escape",
		`"\u12g4"`:                              "invalid escape",
		`"\ud83d"`:                              "surrogate",
		`"\ude00"`:                              "surrogate",
		`"\ud83dx"`:                             "surrogate",
		`"\ud83d\u0041"`:                        "surrogate",
		"\"a\x01b\"":                            "control",
		"\"a\\n\x01b\"":                         "control",
		"\"\xff\"":                              "UTF-8",
		"\"\\n\xff\"":                           "UTF-8",
		"{\"\xed\xa0\x80\":1}":                  "UTF-8",
		nested("[", "]", MaxDepth+1):            "too deep",
		nested(`{"a":`, "}", MaxDepth+1):        "too deep",
		"[" + strings.Repeat("0,", 4100) + "0]": "too many",
		"\xef\xbb\xbf{}":                        "unexpected character",
		"{\"a\":1\x00}":                         "unexpected character",
		strings.Repeat("[", 100_000):            "too deep",
		`{"a":"` + strings.Repeat(`\u00`, 2) + `"`: "invalid escape",
	}
	for in, want := range cases {
		if _, err := Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got error %v, want one with %q", in, err, want)
		}
	}
}

func TestGetAndNumbers(t *testing.T) {
	t.Parallel()
	v, err := Parse([]byte(`{"i":12,"f":1.5,"big":99999999999999999999,"huge":1e400,"s":"12"}`))
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := v.Get("i").Int(); !ok || n != 12 {
		t.Errorf("i = %d, %v", n, ok)
	}
	if f, ok := v.Get("f").Float(); !ok || f != 1.5 {
		t.Errorf("f = %v, %v", f, ok)
	}
	for _, name := range []string{"f", "big", "huge", "s", "absent"} {
		if _, ok := v.Get(name).Int(); ok {
			t.Errorf("%s is taken for an integer", name)
		}
	}
	for _, name := range []string{"huge", "s", "absent"} {
		if _, ok := v.Get(name).Float(); ok {
			t.Errorf("%s is taken for a number", name)
		}
	}
	if k := v.Get("I").Kind; k != None {
		t.Errorf("names match without regard to case: %v", k)
	}
}

// FuzzParse holds the parser to encoding/json: what it accepts, encoding/json
// accepts with the same meaning, and what it refuses beyond that is one of the
// refusals of the package comment.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,2.5e3,"x\u00e9",null,true]}`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, `[[[[]]]]`, `{"kubernetes.io":{"namespace":"n"}}`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := Parse(in)
		decoder := json.NewDecoder(bytes.NewReader(in))
		decoder.UseNumber()
		var want any
		valid := decoder.Decode(&want) == nil && json.Valid(in)
		if err == nil {
			if !valid {
				t.Fatalf("accepted what encoding/json refuses: %q", in)
			}
			if got := plain(v); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q = %#v, encoding/json says %#v", in, got, want)
			}
			return
		}
		stricter := false
		for _, reason := range []error{errDuplicate, errDepth, errValues, errUTF8, errSurrogate} {
			stricter = stricter || strings.Contains(err.Error(), reason.Error())
		}
		if valid && utf8.Valid(in) && !stricter {
			t.Fatalf("refused what encoding/json accepts: %q: %v", in, err)
		}
	})
}

// plain turns a value into what encoding/json makes of it with UseNumber.
func plain(v Value) any {
	switch v.Kind {
	case Bool:
		return v.True
	case Number:
		return json.Number(v.Text)
	case String:
		return v.Text
	case Array:
		items := make([]any, len(v.Items))
		for i := range v.Items {
			items[i] = plain(v.Items[i])
		}
		return items
	case Object:
		members := make(map[string]any, len(v.Members))
		for _, m := range v.Members {
			members[m.Name] = plain(m.Value)
		}
		return members
	default:
		return nil
	}
}

func nested(open, closing string, depth int) string {
	if closing == "}" {
		return strings.Repeat(open, depth) + "1" + strings.Repeat(closing, depth)
	}
	return strings.Repeat(open, depth) + strings.Repeat(closing, depth)
}

func nest(depth int) any {
	v := []any{}
	for range depth - 1 {
		v = []any{any(v)}
	}
	return v
}
