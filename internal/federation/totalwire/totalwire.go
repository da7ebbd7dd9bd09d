// Package totalwire holds the body of the door audit/totals of a site, as the
// fast lane reads it and gatehouse-edge watch writes it: what each
// kube-apiserver of the site says, in its own metrics, of the audit events that
// it made and of those that it threw away.
//
// It owns their shape and bounds. Start with [Report].
package totalwire

import (
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of a report.
const (
	// MaxBody bounds one report, in bytes.
	MaxBody = 64 << 10
	// MaxProcesses bounds the kube-apiservers in it, reached or not.
	MaxProcesses = 32
	// MaxServer bounds the address of one, in bytes.
	MaxServer = 253
	// MaxCount is where counters of the metrics format stop being exact.
	MaxCount = 1 << 53
)

// Report is posted to /sites/NAME/audit/totals. Every counter only rises while
// the process lives.
type Report struct {
	Processes []Process `json:"processes"`
	// Unreached are the servers that were not reached this time.
	Unreached []string `json:"unreached,omitempty"`
}

// Process is one kube-apiserver, from its start to its end.
type Process struct {
	// Server is the address at which it was asked.
	Server string `json:"server"`
	// Started is when it started, in µs since 1970, by its own clock
	// (process_start_time_seconds). With Server it names the process.
	Started int64 `json:"started"`
	// Produced counts the events that it made
	// (apiserver_audit_event_total).
	Produced int64 `json:"produced"`
	// Discarded counts those that it threw away, by the plugin that did
	// (apiserver_audit_error_total).
	Discarded Discarded `json:"discarded"`
}

// Discarded counts events that a kube-apiserver threw away.
type Discarded struct {
	// Buffered found the buffer full; they were never sent.
	Buffered int64 `json:"buffered,omitempty"`
	// Webhook were in batches that the sender gave up on after its retries. A
	// batch that arrived and whose answers were all lost is counted too.
	Webhook int64 `json:"webhook,omitempty"`
	// Truncate were too large even without their bodies; they were never
	// sent.
	Truncate int64 `json:"truncate,omitempty"`
}

// Total is all of them.
func (d Discarded) Total() int64 { return d.Buffered + d.Webhook + d.Truncate }

// Check returns an error of kind Invalid that names what is wrong.
func (r *Report) Check() error {
	if len(r.Processes)+len(r.Unreached) > MaxProcesses {
		return fault.Newf(fault.Invalid, "processes: at most %d, with those that were not reached", MaxProcesses)
	}
	seen := map[string]bool{}
	for i := range r.Processes {
		p := &r.Processes[i]
		switch {
		case !plain(p.Server):
			return fault.Newf(fault.Invalid, "processes[%d].server: must be an address of 1 to %d characters", i, MaxServer)
		case seen[p.Server]:
			return fault.Newf(fault.Invalid, "processes[%d].server: comes twice", i)
		case p.Started <= 0 || p.Started > MaxCount:
			return fault.Newf(fault.Invalid, "processes[%d].started: must be a time in µs", i)
		}
		seen[p.Server] = true
		for _, n := range []int64{p.Produced, p.Discarded.Buffered, p.Discarded.Webhook, p.Discarded.Truncate} {
			if n < 0 || n > MaxCount {
				return fault.Newf(fault.Invalid, "processes[%d]: a counter is not within 0 and %d", i, int64(MaxCount))
			}
		}
	}
	for i, server := range r.Unreached {
		if !plain(server) || seen[server] {
			return fault.Newf(fault.Invalid, "unreached[%d]: must be an address that comes once", i)
		}
		seen[server] = true
	}
	return nil
}

// plain reports whether a text is short and printable ASCII without spaces.
func plain(s string) bool {
	if s == "" || len(s) > MaxServer {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
