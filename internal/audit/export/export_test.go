package export_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/export"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
)

const origin = "gatehouse.test/audit/r1"

// bundle is what the tests take apart.
type bundle struct {
	text    string
	key     string
	witness *witness.Signer
	anchor  []byte
}

// export1000 exports every seventh event of a log of 1,000, of which 512 are sealed,
// signed by a witness at 300 and 1,000 records.
func export1000(t *testing.T, seed string) bundle {
	t.Helper()
	fsys := crashfs.New(1)
	by, err := witness.NewSigner("witness.test/w", ed25519.NewKeyFromSeed([]byte(strings.Repeat("w", 32))), func() time.Time { return time.Unix(1_790_000_000, 0) })
	if err != nil {
		t.Fatal(err)
	}
	var signed [][]byte
	b := bundle{witness: by}
	start := 0
	for _, end := range []int{300, 1000} {
		l, err := ledger.Open("log", ledger.Config{ID: "r1", Origin: origin, Key: ed25519.NewKeyFromSeed([]byte(strings.Repeat(seed, 32))), FS: fsys, SegmentRecords: 512, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for i := start; i < end; i++ {
			e := audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint("id-", i), Stage: audit.StageResponseComplete, Verb: "get", RequestURI: "/\u2028é\"", User: audit.UserInfo{Username: "somebody"}}
			if i%7 == 0 {
				e.User.Username = "jane"
			}
			if i%2 == 0 {
				_, err = l.AppendBatch(t.Context(), "blue", []audit.Event{e})
			} else {
				err = l.Append(t.Context(), &e, audit.Buffered)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		start = end
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		b.key, b.anchor = l.VerifierKey(), l.Stats().Checkpoint
		n, err := note.Open(b.anchor, note.VerifierList(mustVerifier(t, b.key)))
		if err != nil {
			t.Fatal(err)
		}
		cosigned, err := note.Sign(n, by)
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, cosigned)
	}
	src, err := tiles.Open(fsys, "log")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n, err := export.Write(t.Context(), &out, src, append(signed, []byte("nonsense")), query.Filter{User: "jane", Newest: true}, map[string]string{"user": "jane"}, time.Unix(1_790_000_100, 0),
		func(ctx context.Context, f query.Filter, emit func(query.Match) error) error {
			return query.Run(ctx, fsys, "log", f, emit)
		})
	if err != nil || n != 143 {
		t.Fatalf("%d records: %v", n, err)
	}
	b.text = out.String()
	return b
}

func mustVerifier(t *testing.T, key string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func check(t *testing.T, text string, o export.Options) *export.Report {
	t.Helper()
	r, err := export.Verify(t.Context(), strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestIndependent verifies a bundle with nothing of ours: JSON, the signed
// notes and the proofs of the Go checksum database.
func TestIndependent(t *testing.T) {
	t.Parallel()
	b := export1000(t, "l")
	lines := strings.Split(strings.TrimSuffix(b.text, "\n"), "\n")
	var head struct{ Checkpoint string }
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(head.Checkpoint), note.VerifierList(mustVerifier(t, b.key)))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Split(n.Text, "\n")
	size, err := strconv.ParseInt(text[1], 10, 64)
	if err != nil || text[0] != origin || size < 1000 {
		t.Fatalf("%v: %q", err, text)
	}
	root, err := tlog.ParseHash(text[2])
	if err != nil {
		t.Fatal(err)
	}
	proven := 0
	for _, line := range lines[1 : len(lines)-1] {
		var r struct {
			Index   int64
			Payload string
			Proof   tlog.RecordProof
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(r.Proof, size, root, r.Index, tlog.RecordHash([]byte(r.Payload))); err != nil {
			t.Errorf("record %d: %v", r.Index, err)
		}
		var payload struct {
			At    int64
			Event struct {
				AuditID string
				User    struct{ Username string }
			}
		}
		if err := json.Unmarshal([]byte(r.Payload), &payload); err != nil || payload.Event.User.Username != "jane" || payload.At == 0 {
			t.Errorf("record %d: %v: %s", r.Index, err, r.Payload)
		}
		proven++
	}
	if proven != 143 {
		t.Errorf("%d records", proven)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	b := export1000(t, "l")
	all := export.Options{Keys: []string{b.key}, Witnesses: []string{b.witness.String()}, Anchors: [][]byte{b.anchor}}
	r := check(t, b.text, all)
	if !r.OK() || r.Records != 143 || r.Anchors != 1 || len(r.Witnesses) != 1 || r.Witnesses[0].Size != r.Size || len(r.Unsure) != 1 {
		t.Fatalf("%+v", r)
	}
	if r := check(t, b.text, export.Options{}); !r.OK() || len(r.Unsure) != 3 {
		t.Fatalf("%+v", r)
	}
	other := export1000(t, "x")
	lines := strings.SplitAfter(b.text, "\n")
	with := func(i int, line string) string {
		out := append([]string(nil), lines...)
		out[i] = line
		return strings.Join(out, "")
	}
	swap := func(old, new string) string { return strings.Replace(b.text, old, new, 1) }
	for name, c := range map[string]struct {
		text string
		o    export.Options
		kind verify.Kind
	}{
		"an altered name":         {swap(`\"username\":\"jane\"`, `\"username\":\"joan\"`), all, verify.Altered},
		"another index":           {swap(`"index":994`, `"index":993`), all, verify.Altered},
		"a record left out":       {with(5, ""), all, verify.Missing},
		"a record twice":          {with(5, lines[5]+lines[5]), all, verify.Altered},
		"cut off":                 {strings.Join(lines[:50], ""), all, verify.Truncated},
		"cut off inside a line":   {b.text[:len(b.text)/2], all, verify.Damaged},
		"something behind":        {b.text + "{}\n", all, verify.Damaged},
		"an unknown field":        {swap(`{"index":994`, `{"note":"x","index":994`), all, verify.Damaged},
		"another log":             {other.text, all, verify.Signature},
		"no such witness":         {b.text, export.Options{Keys: []string{b.key}, Witnesses: []string{other.witness.String()}, Anchors: [][]byte{other.anchor}}, verify.Signature},
		"a checkpoint of another": {swap(`"checkpoint":"`+origin, `"checkpoint":"x`+origin), all, verify.Signature},
	} {
		if r := check(t, c.text, c.o); r.OK() || r.Faults[0].Kind != c.kind && r.Faults[len(r.Faults)-1].Kind != c.kind {
			t.Errorf("%s: %+v", name, r.Faults)
		}
	}
	for _, bad := range []string{"", "{}\n", "nonsense\n", strings.Repeat("x", 2<<20)} {
		if _, err := export.Verify(t.Context(), strings.NewReader(bad), export.Options{}); err == nil {
			t.Errorf("%.20q is a bundle", bad)
		}
	}
}

// TestEveryByteOfABundle flips bytes: what carries evidence must not change
// unnoticed.
func TestEveryByteOfABundle(t *testing.T) {
	t.Parallel()
	b := export1000(t, "l")
	lines := strings.SplitAfter(b.text, "\n")
	// A header and the first records are enough: the others are alike. The end
	// then counts them.
	short := strings.Join(lines[:4], "") + "{\"end\":true,\"records\":3}\n"
	o := export.Options{Keys: []string{b.key}, Witnesses: []string{b.witness.String()}}
	if r := check(t, short, o); !r.OK() {
		t.Fatal(r.Faults)
	}
	var h export.Header
	if err := json.Unmarshal([]byte(lines[0]), &h); err != nil {
		t.Fatal(err)
	}
	for at := range len(short) {
		changed := []byte(short)
		changed[at] ^= 0x02
		r, err := export.Verify(t.Context(), bytes.NewReader(changed), o)
		if err != nil || !r.OK() {
			continue
		}
		// What the header says of itself, and the keys, are not believed; a
		// second witnessed checkpoint is not needed. The last digit of a hash in
		// base64 has two bits that mean nothing.
		if at < len(lines[0]) || short[at+1] == '=' {
			continue
		}
		t.Errorf("byte %d, %q, changed and nothing found: %s", at, short[at], short[max(0, at-40):min(len(short), at+20)])
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("{\"kind\":\"AuditExport\",\"apiVersion\":\"audit.gatehouse.dev/export-v1\",\"keys\":[]}\n{\"end\":true}\n")
	f.Add("{}\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := export.Verify(t.Context(), strings.NewReader(text), export.Options{})
		if err == nil && r.OK() && r.Size == 0 && r.Records > 0 {
			t.Errorf("records without a checkpoint hold: %q", text)
		}
	})
}
