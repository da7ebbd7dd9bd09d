package collect

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

// An auditID is the same at every replica, and nobody without the key can tell
// it beforehand: who could would put an event of its own on record under it, and
// a gap would be taken for a repetition of that.
func TestIDsCannotBeTold(t *testing.T) {
	t.Parallel()
	ours, same, other := NewIDs([32]byte{1}), NewIDs([32]byte{1}), NewIDs([32]byte{2})
	a := ours.ID("gap", "blue", "x")
	if a != same.ID("gap", "blue", "x") {
		t.Error("two replicas do not agree")
	}
	if a == other.ID("gap", "blue", "x") {
		t.Error("the key is not in it")
	}
	if a == ours.ID("gap", "bluex", "") || a == ours.ID("gap", "blue") {
		t.Error("the border of parts is not in it")
	}
	if id, err := uuid.Parse(a); err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%s: %v", a, err)
	}
	e := &Entry{Kind: "Journal", ID: "s=1;i=2", Host: "h"}
	if id := (Writer{Site: "blue", Source: "web"}).Event(ours, e, Peer{}, e.At).AuditID; id != ours.ID("Journal", "blue", "web", e.ID) || strings.Contains(id, "web") {
		t.Errorf("an entry has %s", id)
	}
}
