package jws

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type vectorFile struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		Comment string         `json:"comment"`
		Private map[string]any `json:"private"`
		Public  map[string]any `json:"public"`
		Tests   []struct {
			ID      int             `json:"tcId"`
			Comment string          `json:"comment"`
			JWS     json.RawMessage `json:"jws"`
			JWE     json.RawMessage `json:"jwe"`
			Result  string          `json:"result"`
		} `json:"tests"`
	} `json:"testGroups"`
}

// published returns what the owner of a private key set would publish.
func published(set map[string]any) map[string]any {
	if keys, ok := set["keys"].([]any); ok {
		for i := range keys {
			keys[i] = published(keys[i].(map[string]any))
		}
		return set
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi"} {
		delete(set, name)
	}
	return set
}

func verifyWith(set map[string]any, token string) error {
	if _, isSet := set["keys"]; !isSet {
		set = map[string]any{"keys": []any{set}}
	}
	data, err := json.Marshal(set)
	if err != nil {
		return err
	}
	keys, err := ParseKeySet(data)
	if err != nil {
		return err
	}
	unverified, err := Parse(token)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.ID() == unverified.KeyID() {
			_, err := unverified.Verify(key)
			return err
		}
	}
	return errors.New("no such key")
}

func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	files := map[string]int{"json_web_signature_test.json": 32, "json_web_key_test.json": 1, "json_web_crypto_test.json": 2, "json_web_encryption_test.json": 0}
	for name, wantAccepted := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name))
			if err != nil {
				t.Fatal(err)
			}
			var file vectorFile
			if err := json.Unmarshal(data, &file); err != nil {
				t.Fatal(err)
			}
			seen, accepted := 0, 0
			for _, group := range file.TestGroups {
				key := group.Public
				if key == nil {
					key = group.Private
				}
				key = published(key)
				for _, tc := range group.Tests {
					seen++
					where := fmt.Sprintf("%s %d (%s)", group.Comment, tc.ID, tc.Comment)
					raw := tc.JWS
					if raw == nil {
						raw = tc.JWE
					}
					// A few cases hold a JSON serialisation as an object.
					token := string(raw)
					var text string
					if json.Unmarshal(raw, &text) == nil {
						token = text
					}
					err := verifyWith(key, token)
					if err == nil {
						accepted++
					}
					ours := tc.JWE == nil && !strings.Contains(string(mustJSON(t, key)), `"oct"`)
					switch {
					case tc.Result == "invalid" && err == nil:
						t.Errorf("%s: accepted", where)
					case !ours && err == nil:
						t.Errorf("%s: accepted a token that is encrypted or has a shared secret", where)
					case tc.Result == "valid" && ours && err != nil:
						pinned(t, where, key, token, err)
					}
				}
			}
			if seen != file.NumberOfTests {
				t.Errorf("%d cases ran of %d", seen, file.NumberOfTests)
			}
			if accepted != wantAccepted {
				t.Errorf("%d cases accepted, want %d", accepted, wantAccepted)
			}
		})
	}
}

// pinned handles the published cases whose key names another algorithm than
// the token, or one that does not exist: we refuse them because a key has one
// algorithm, and for no other reason.
func pinned(t *testing.T, where string, key map[string]any, token string, refusal error) {
	t.Helper()
	unverified, err := Parse(token)
	if err != nil {
		t.Errorf("%s: refused: %v", where, err)
		return
	}
	if key["alg"] == string(unverified.Algorithm()) {
		t.Errorf("%s: refused: %v", where, refusal)
		return
	}
	corrected := map[string]any{}
	for name, value := range key {
		corrected[name] = value
	}
	corrected["alg"] = string(unverified.Algorithm())
	if err := verifyWith(corrected, token); err != nil {
		t.Errorf("%s: refused although key and token now agree: %v", where, err)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
