package accesskey

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

var (
	now  = time.Unix(1514764800, 0)
	good = Request{User: "jane", Audience: "keystone", Namespace: "project", Lifetime: time.Hour}
)

func TestNewAndCheck(t *testing.T) {
	t.Parallel()
	key, record, err := New(good, now)
	if err != nil {
		t.Fatal(err)
	}
	text := key.Reveal()
	if !Is(text) || !strings.HasPrefix(text, "ghk_"+record.ID+"_") || len(text) != keyLength {
		t.Errorf("key of unexpected form, %d bytes", len(text))
	}
	if shown := fmt.Sprintf("%v %+v", key, record); strings.Contains(shown, text[21:]) {
		t.Error("the secret is shown")
	}
	other, _, err := New(good, now)
	if err != nil || other.Reveal() == text {
		t.Errorf("two keys are one: %v", err)
	}
	swap := func(at int) string {
		c := byte('a')
		if text[at] == c {
			c = 'b'
		}
		return text[:at] + string(c) + text[at+1:]
	}
	revoked, foreign := record, record
	revoked.Revoked = true
	foreign.ID = strings.Repeat("a", idLength)
	cases := map[string]struct {
		record   Record
		text     string
		audience string
		at       time.Time
		want     error
	}{
		"good":                       {record, text, "keystone", now, nil},
		"last moment":                {record, text, "keystone", now.Add(time.Hour - 1), nil},
		"expired":                    {record, text, "keystone", now.Add(time.Hour), ErrExpired},
		"revoked":                    {revoked, text, "keystone", now, ErrRevoked},
		"other door":                 {record, text, "salt", now, ErrAudience},
		"no door":                    {record, text, "", now, ErrAudience},
		"first character":            {record, swap(21), "keystone", now, ErrSecret},
		"last character":             {record, swap(len(text) - 1), "keystone", now, ErrSecret},
		"other id":                   {record, swap(4), "keystone", now, ErrSecret},
		"record of another":          {foreign, text, "keystone", now, ErrSecret},
		"other key":                  {record, other.Reveal(), "keystone", now, ErrSecret},
		"wrong secret, also expired": {record, swap(30), "keystone", now.Add(2 * time.Hour), ErrSecret},
		"empty":                      {record, "", "keystone", now, ErrForm},
		"empty record":               {Record{}, text, "", now, ErrSecret},
		"upper case":                 {record, strings.ToUpper(text), "keystone", now, ErrForm},
		"longer":                     {record, text + "a", "keystone", now, ErrForm},
		"no separator":               {record, strings.Replace(text, "_"+text[21:], "a"+text[21:], 1), "keystone", now, ErrForm},
		"digit outside the alphabet": {record, text[:30] + "1" + text[31:], "keystone", now, ErrForm},
	}
	for name, tc := range cases {
		if err := tc.record.Check(tc.text, tc.audience, tc.at); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Request){
		"no user":       func(r *Request) { r.User = "" },
		"no audience":   func(r *Request) { r.Audience = "" },
		"no namespace":  func(r *Request) { r.Namespace = "" },
		"no lifetime":   func(r *Request) { r.Lifetime = 0 },
		"past lifetime": func(r *Request) { r.Lifetime = -1 },
		"forever":       func(r *Request) { r.Lifetime = MaxLifetime + 1 },
	} {
		r := good
		change(&r)
		if _, _, err := New(r, now); err == nil {
			t.Errorf("%s: a key was made", name)
		}
	}
}

func TestInURL(t *testing.T) {
	t.Parallel()
	key, _, err := New(good, now)
	if err != nil {
		t.Fatal(err)
	}
	text := key.Reveal()
	for in, want := range map[string]bool{
		"https://h/path?token=" + text:                                  true,
		"https://h/" + text:                                             true,
		"https://h/path#" + text:                                        true,
		"https://user:" + text + "@h/":                                  true,
		"https://h/?t=%67hk_" + text[4:]:                                true,
		"https://h/p%2F" + strings.ReplaceAll(text, "_", "%5F"):         true,
		"https://h/path?token=none":                                     false,
		"https://h/api/v1/namespaces/ghost/configmaps/ghk-config?x=%ZZ": false,
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := InURL(u); got != want {
			t.Errorf("%.40s…: %v", in, got)
		}
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	var u Uses
	if len(u.Drain()) != 0 {
		t.Error("uses before any")
	}
	u.Touch("a", now)
	u.Touch("a", now.Add(-time.Second))
	u.Touch("b", now.Add(time.Second))
	got := u.Drain()
	if len(got) != 2 || !got["a"].Equal(now) || !got["b"].Equal(now.Add(time.Second)) {
		t.Errorf("uses %v", got)
	}
	if len(u.Drain()) != 0 {
		t.Error("uses are drained twice")
	}
}

func FuzzCheck(f *testing.F) {
	key, record, err := New(good, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Reveal())
	f.Add("ghk_")
	f.Fuzz(func(t *testing.T, text string) {
		if err := record.Check(text, "keystone", now); (err == nil) != (text == key.Reveal()) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
