package follow

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/followwire"
)

// What is kept on disk. The head is what is signed of the last frame; it is
// small, and written whenever policy is renewed. The body is the policy, under
// its digest, and written before the head that needs it.
const (
	keysFile   = "keys"
	headFile   = "head"
	bodyPrefix = "policy-"
	// barredFile is there while the site is barred.
	barredFile = "barred"
	// denyOnlyFile is there while the control plane has the site in mode deny.
	denyOnlyFile = "deny-only"
	// maxKeysFile bounds the key set.
	maxKeysFile = 64 << 10
)

func (f *Follower) path(name string) string { return filepath.Join(f.cfg.Dir, name) }

func (f *Follower) writeKeys(message []byte) error {
	if old, err := os.ReadFile(f.path(keysFile)); err == nil && bytes.Equal(old, message) {
		return nil
	}
	if err := durable.WriteFile(f.path(keysFile), message); err != nil {
		return fmt.Errorf("keep keys of policy: %w", err)
	}
	return nil
}

// write keeps a frame that was accepted.
func (f *Follower) write(frame []byte) error {
	h, head, body, err := snapshot.Parts(frame)
	if err != nil {
		return err
	}
	name := bodyPrefix + h.Digest
	if len(body) > 0 {
		if err := durable.WriteFile(f.path(name), body); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(f.path(headFile), head); err != nil {
		return err
	}
	if len(body) > 0 {
		return f.removeOthers(name)
	}
	return nil
}

func (f *Follower) removeOthers(name string) error {
	entries, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), bodyPrefix) && e.Name() != name {
			if err := durable.Remove(f.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// bar notes whether the site may decide at all, over restarts too.
func (f *Follower) bar(barred bool) {
	if f.barred.Swap(barred) == barred {
		return
	}
	if barred {
		f.cfg.Log.Error("the control plane refuses this site; nothing is decided")
	}
	f.mark(barredFile, barred)
}

// restrict notes, over restarts too, whether the site may grant.
func (f *Follower) restrict(mode string) {
	only := mode == string(federation.SiteDeny)
	if mode == "" || f.denyOnly.Swap(only) == only {
		return
	}
	f.cfg.Log.Warn("the control plane changed the mode of this site", "mode", mode)
	f.mark(denyOnlyFile, only)
}

// mark has a file be there or not.
func (f *Follower) mark(name string, there bool) {
	var err error
	if there {
		err = durable.WriteFile(f.path(name), nil)
	} else if err = durable.Remove(f.path(name)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		f.cfg.Log.Error("a restart will not know what the control plane said of this site", "file", name, "error", err)
	}
}

// restore takes up what is on disk. What is damaged or forged is refused and
// said, and does not keep the program from following the control plane; a
// directory that cannot be read does.
func (f *Follower) restore() error {
	if err := durable.Mkdir(f.cfg.Dir); err != nil {
		return err
	}
	if err := durable.RemoveLeftovers(f.cfg.Dir); err != nil {
		return err
	}
	if _, err := os.Lstat(f.path(barredFile)); err == nil {
		f.barred.Store(true)
	}
	if _, err := os.Lstat(f.path(denyOnlyFile)); err == nil {
		f.denyOnly.Store(true)
	}
	message, err := readBounded(f.path(keysFile), maxKeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was held
	}
	if err != nil {
		return err
	}
	if keys, is, err := followwire.ParseKeys(message); err == nil && is {
		f.keys.Store(&keys)
	}
	head, err := readBounded(f.path(headFile), maxKeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h, _, rest, err := snapshot.Parts(head)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows the signature")
	}
	if err == nil && !isDigest(h.Digest) {
		err = errors.New("its digest is malformed")
	}
	var body []byte
	if err == nil {
		body, err = readBounded(f.path(bodyPrefix+h.Digest), snapshot.MaxFrame)
	}
	if err == nil {
		h, err = f.policy.Restore(append(head, body...))
	}
	if err != nil {
		f.mu.Lock()
		f.refused++
		f.last = err
		f.mu.Unlock()
		f.cfg.Log.Error("policy on disk refused; nothing is decided before the control plane is heard", "dir", f.cfg.Dir, "error", err)
		return nil
	}
	f.cfg.Log.Info("policy on disk is in force", "sequence", h.Sequence, "issued", h.Issued)
	return nil
}

// isDigest keeps a forged head from naming a file elsewhere.
func isDigest(s string) bool {
	return len(s) == followwire.MaxDigest && strings.Trim(s, "0123456789abcdef") == ""
}

func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
