package keys

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// testRoot is a root of 32 equal bytes.
func testRoot(t testing.TB, fill byte) Root {
	t.Helper()
	key := make([]byte, rootSize)
	for i := range key {
		key[i] = fill
	}
	root, err := NewRoot(secret.NewBytes(key))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func testKeyring(t testing.TB, fills ...byte) *Keyring {
	t.Helper()
	var roots []Root
	for _, fill := range fills {
		roots = append(roots, testRoot(t, fill))
	}
	ring, err := NewKeyring(roots...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestCreateThenOpenRoot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.key")
	created, err := CreateRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	if created.RootID() != opened.RootID() || len(opened.RootID()) != 16 {
		t.Errorf("created %s, opened %s", created.RootID(), opened.RootID())
	}
	sealed, err := created.Resources().Seal([]byte("x"), []byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Resources().Open(sealed, []byte("p")); err != nil {
		t.Error(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateRoot(path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("second create: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Error("the second create changed the file")
	}
	other, err := CreateRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if other.RootID() == created.RootID() {
		t.Error("two new roots have one id")
	}
	if _, err := CreateRoot(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("created a root below a file")
	}
}

// TestRootFileFormatIsFrozen fixes the bytes: a change would lock every
// existing installation out.
func TestRootFileFormatIsFrozen(t *testing.T) {
	t.Parallel()
	const frozen = "gatehouse-root-key-v1 vwhtemepofugurqw AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
	if got := string(formatRoots([]Root{testRoot(t, 1)})); got != frozen {
		t.Errorf("format %q, want %q", got, frozen)
	}
	roots, err := parseRoots([]byte(frozen))
	if err != nil || len(roots) != 1 || !roots[0].key.Equal(testRoot(t, 1).key) {
		t.Errorf("parse: %v", err)
	}
}

func TestOpenRootRefusals(t *testing.T) {
	t.Parallel()
	good := string(formatRoots([]Root{testRoot(t, 1)}))
	write := func(content string, mode fs.FileMode) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	cases := []struct {
		name string
		make func(t *testing.T, path string)
		uid  int
		want string
	}{
		{"missing", func(*testing.T, string) {}, 0, "restore it from its backup"},
		{"readable by group", write(good, 0o640), 0, "has mode 0640, want 0600: run chmod 600"},
		{"readable by all", write(good, 0o604), 0, "has mode 0604"},
		{"writable by group", write(good, 0o620), 0, "has mode 0620"},
		{"executable", write(good, 0o700), 0, "has mode 0700"},
		{"of another user", write(good, 0o600), 1, "run chown"},
		{"symbolic link", func(t *testing.T, path string) {
			write(good, 0o600)(t, path+".real")
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, 0, "is a symbolic link"},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, 0, "is not a regular file"},
		{"pipe", func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, 0, "is not a regular file"},
		{"path below a file", func(*testing.T, string) {}, -1, "not a directory"},
		{"empty", write("", 0o600), 0, "is empty"},
		{"cut short", write(good[:len(good)-1], 0o600), 0, "is cut short"},
		{"foreign text", write("-----BEGIN PRIVATE KEY-----\n", 0o600), 0, "line 1 is not a root key"},
		{"later version", write(strings.Replace(good, "-v1", "-v2", 1), 0o600), 0, "only gatehouse-root-key-v1"},
		{"two fields", write(good[:strings.LastIndex(good, " ")]+"\n", 0o600), 0, "three fields"},
		{"four fields", write(strings.TrimSuffix(good, "\n")+" x\n", 0o600), 0, "three fields"},
		{"short key", write(strings.Replace(good, "AQEB", "", 1), 0o600), 0, "damaged key"},
		{"not base64", write(strings.Replace(good, "AQEB", "AQ!B", 1), 0o600), 0, "damaged key"},
		{"zero key", write("gatehouse-root-key-v1 aaaaaaaaaaaaaaaa "+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 0o600), 0, "damaged key"},
		{"one bit of the key", write(strings.Replace(good, "AQEB", "AAEB", 1), 0o600), 0, "does not fit its id"},
		{"one character of the id", write(strings.Replace(good, "vwht", "vwha", 1), 0o600), 0, "does not fit its id"},
		{"windows line end", write(strings.Replace(good, "\n", "\r\n", 1), 0o600), 0, "damaged key"},
		{"blank second line", write(good+"\n", 0o600), 0, "line 2 is not a root key"},
		{"repeated", write(good+good, 0o600), 0, "line 2 repeats"},
		{"too long", write(strings.Repeat("a", maxRootFile+1), 0o600), 0, "longer than"},
		{"too many", write(strings.Repeat("a\n", maxRoots+1), 0o600), 0, "more than 8"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "root.key")
			tc.make(t, path)
			uid := os.Geteuid() + tc.uid
			if tc.uid < 0 {
				write(good, 0o600)(t, path)
				path, uid = filepath.Join(path, "x"), os.Geteuid()
			}
			_, err := openRoot(path, uid)
			if err == nil {
				t.Fatal("opened")
			}
			text := err.Error()
			if !strings.Contains(text, tc.want) || !strings.Contains(text, path) || strings.Contains(text, "\n") {
				t.Errorf("error %q, want one line with %q and the path", text, tc.want)
			}
			if strings.Contains(text, "AQEB") {
				t.Errorf("error shows the key: %q", text)
			}
			if tc.name == "missing" && !errors.Is(err, fs.ErrNotExist) {
				t.Error("a missing file is not fs.ErrNotExist")
			}
		})
	}
}

func TestRootFileOfSeveralRoots(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.key")
	first, second := testRoot(t, 1), testRoot(t, 2)
	if err := os.WriteFile(path, formatRoots([]Root{first, second}), 0o400); err != nil {
		t.Fatal(err)
	}
	ring, err := OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	if ids := ring.RootIDs(); len(ids) != 2 || ids[0] != first.ID() || ids[1] != second.ID() || ring.RootID() != first.ID() {
		t.Errorf("roots %v", ids)
	}
}

func TestNewRootAndKeyringRefuse(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 16, 31, 33, 64} {
		if _, err := NewRoot(secret.NewBytes(make([]byte, size))); err == nil {
			t.Errorf("took a root of %d bytes", size)
		}
	}
	if _, err := NewRoot(secret.NewBytes(make([]byte, rootSize))); err == nil {
		t.Error("took the zero key")
	}
	if _, err := NewKeyring(); err == nil {
		t.Error("made a keyring of nothing")
	}
	if _, err := NewKeyring(Root{}); err == nil {
		t.Error("made a keyring of the zero root")
	}
	if _, err := NewKeyring(testRoot(t, 1), testRoot(t, 1)); err == nil {
		t.Error("made a keyring of one root twice")
	}
	var nine []Root
	for i := range byte(9) {
		nine = append(nine, testRoot(t, i+1))
	}
	if _, err := NewKeyring(nine...); err == nil {
		t.Error("made a keyring of nine")
	}
}

func FuzzParseRoots(f *testing.F) {
	good := formatRoots([]Root{testRoot(f, 1), testRoot(f, 2)})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("gatehouse-root-key-v1 a b\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		roots, err := parseRoots(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		// Whatever is accepted has exactly one spelling.
		if got := formatRoots(roots); string(got) != string(data) {
			t.Errorf("accepted %q, which is written %q", data, got)
		}
		if _, err := NewKeyring(roots...); err != nil {
			t.Errorf("accepted roots that make no keyring: %v", err)
		}
	})
}
