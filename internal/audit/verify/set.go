package verify

import (
	"bytes"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
)

// Registration is what the control plane knows of a log it has or had: one for
// each replica, kept in etcd, apart from the logs themselves.
type Registration struct {
	ID     string
	Origin string
	Key    string
	// Checkpoint is the newest that the replica registered, and for a retired
	// replica the final one.
	Checkpoint []byte
}

// Compare holds the logs found against those registered: a registered log that
// is not among the reports, and a found one that nobody registered, are faults.
func Compare(registered []Registration, found []*Report) []Fault {
	var faults []Fault
	byID := map[string]*Report{}
	for _, r := range found {
		byID[r.Log] = r
	}
	known := map[string]bool{}
	for _, reg := range registered {
		known[reg.ID] = true
		if byID[reg.ID] == nil {
			faults = append(faults, Fault{Kind: Missing, Offset: -1, Detail: fmt.Sprintf("log %s (%s) is registered, but not here", reg.ID, reg.Origin)})
		}
	}
	for _, r := range found {
		if !known[r.Log] {
			faults = append(faults, Fault{Kind: Foreign, Offset: -1, Detail: fmt.Sprintf("log %s (%s) is not registered", r.Log, r.Origin)})
		}
	}
	return faults
}

// selfNeedle is in every event of a log about itself.
var selfNeedle = []byte(`"username":"` + ledger.Self + `"`)

// isSelf is a cheap test before an event is parsed.
func isSelf(event []byte) bool { return bytes.Contains(event, selfNeedle) }
