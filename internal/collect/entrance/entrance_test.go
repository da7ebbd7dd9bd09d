package entrance

import (
	"testing"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Connections that stay open keep out neither uploads nor other sites.
func TestPlaces(t *testing.T) {
	t.Parallel()
	e := &Entrance{held: map[string]int{}}
	var open []*Visit
	enter := func(kind auditapi.AuditSourceKind, site, source string) error {
		v := &Visit{e: e, kind: kind, Writer: collect.Writer{Site: site, Source: source}}
		err := e.enter(v)
		if err == nil {
			open = append(open, v)
		}
		return err
	}
	for range maxVisitsOfOne {
		if err := enter(auditapi.AuditSourceSyslog, "blue", "web"); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter(auditapi.AuditSourceSyslog, "blue", "web"); fault.KindOf(err) != fault.Exhausted {
		t.Errorf("one source: %v", err)
	}
	for _, site := range []string{"blue", "green", "red", "white"} {
		for enter(auditapi.AuditSourceSyslog, site, "") == nil {
		}
	}
	if len(open) != maxVisits {
		t.Errorf("%d connections", len(open))
	}
	if err := enter(auditapi.AuditSourceSyslog, "black", ""); fault.KindOf(err) != fault.Exhausted {
		t.Errorf("another connection: %v", err)
	}
	if err := enter(auditapi.AuditSourceJournal, "blue", ""); err != nil {
		t.Errorf("an upload of a site with many connections: %v", err)
	}
	for _, v := range open {
		v.Close()
	}
	if len(e.held) != 0 {
		t.Errorf("places that are not given back: %v", e.held)
	}
}
