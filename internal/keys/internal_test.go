package keys

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// TestAnEarlierSetDoesNotReplaceALaterOne is what happens when two reads of
// the store finish in the other order.
func TestAnEarlierSetDoesNotReplaceALaterOne(t *testing.T) {
	t.Parallel()
	var r Ring[Tokens]
	content := newTestRing(t, Tokens{}.spec(), 1)
	first, second := newSet[Tokens](content, 1), newSet[Tokens](content, 2)
	r.publish(second)
	r.publish(first)
	if r.Set() != second {
		t.Error("the earlier set is current")
	}
	select {
	case <-second.Replaced():
		t.Error("the later set counts as replaced")
	default:
	}
}

// oneEntry is a store that holds a check value and nothing else.
type oneEntry struct {
	Store
	value []byte
}

func (s oneEntry) Get(_ context.Context, name string) (Entry, error) {
	if name != checkName {
		return Entry{}, fault.New(fault.NotFound, "not found")
	}
	return Entry{Name: name, Value: s.value, Revision: 1}, nil
}

func TestCheckValueOfALaterVersionIsRefused(t *testing.T) {
	t.Parallel()
	roots := testKeyring(t, 1)
	value, err := roots.vault.Seal([]byte("gatehouse root key check v2"), place(checkName))
	if err != nil {
		t.Fatal(err)
	}
	err = VerifyRoot(t.Context(), oneEntry{value: value}, roots)
	if err == nil || errors.Is(err, ErrWrongRoot) || !strings.Contains(err.Error(), "version") {
		t.Errorf("got %v", err)
	}
}
