package server

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/collect/senders"
)

// The status says what cannot be excluded, and does not change with each report.
func TestAccountedCondition(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		state    senders.State
		reported bool
		reason   string
		says     string
	}{
		"no watcher":     {senders.State{}, false, "NotReported", "cannot be excluded"},
		"it went away":   {senders.State{Reported: at, Processes: 1}, true, "Stale", "2026-01-02T03:04:05Z"},
		"one of several": {senders.State{Reported: at, Current: true, Processes: 3, Unreached: 1}, true, "Incomplete", "does not reach 1"},
		"all":            {senders.State{Reported: at.Add(time.Hour), Since: at, Current: true, Processes: 3, Discarded: 12}, true, "Reported", "3 kube-apiservers, which discarded 12 events since 2026-01-02T03:04:05Z"},
	} {
		got := accountedCondition(c.state, c.reported)
		if got.Reason != c.reason || !strings.Contains(got.Message, c.says) || (got.Status == metav1.ConditionTrue) != (c.reason == "Reported") {
			t.Errorf("%s: %+v", name, got)
		}
		c.state.Reported = c.state.Reported.Add(time.Second)
		if again := accountedCondition(c.state, c.reported); again.Message != got.Message && c.reason != "Stale" {
			t.Errorf("%s: the next report changes it: %s", name, again.Message)
		}
	}
}
