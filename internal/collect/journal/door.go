package journal

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/collect/entrance"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	kind = auditapi.AuditSourceJournal

	// MediaType of the journal export format.
	MediaType = "application/vnd.fdo.journal"

	// What is recorded at once.
	maxBatchEntries = 1024
	maxBatchBytes   = 1 << 20
	// idleTimeout ends an upload in which nothing comes: a sender that has no
	// entries ends its upload and begins another one later.
	idleTimeout = 2 * time.Minute
)

// Door takes uploads. It is safe for concurrent use.
type Door struct{ Entrance *entrance.Entrance }

// Serve answers an upload for a site, whose name stands in the path.
func (d Door) Serve(w http.ResponseWriter, r *http.Request, site string) {
	visit, err := d.Entrance.Open(r, kind, site)
	if err != nil {
		entrance.Answer(w, r, err)
		return
	}
	defer visit.Close()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "journals are posted", http.StatusMethodNotAllowed)
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != MediaType || r.Header.Get("Content-Encoding") != "" {
		http.Error(w, "the body must be "+MediaType+", without Content-Encoding", http.StatusUnsupportedMediaType)
		return
	}
	if err := d.take(w, r, visit); err != nil {
		visit.Refuse(r, err)
		entrance.Answer(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, "OK.\n") // the sender may be gone; it sends again
}

// take records the entries of a body, while it comes. What was recorded before
// an error stays; the sender sends all of it again, and it is recognised.
func (d Door) take(w http.ResponseWriter, r *http.Request, visit *entrance.Visit) error {
	control := http.NewResponseController(w)
	stopped := context.AfterFunc(d.Entrance.Stop, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
	defer stopped()
	in := NewReader(&patient{r.Body, control, d.Entrance.Stop})
	// One batch is being recorded while the next one is read.
	var (
		batch []*collect.Entry
		size  int
		doing chan error
	)
	wait := func() error {
		if doing == nil {
			return nil
		}
		err := <-doing
		doing = nil
		return err
	}
	flush := func() error {
		if err := wait(); err != nil || len(batch) == 0 {
			return err
		}
		doing = make(chan error, 1)
		go func(done chan<- error, entries []*collect.Entry) { done <- visit.Record(r.Context(), entries) }(doing, batch)
		batch, size = nil, 0
		return nil
	}
	for {
		entry, err := in.Next()
		if err != nil {
			// What came whole before is recorded in any case.
			rerr := errors.Join(flush(), wait())
			switch {
			case rerr != nil:
				return rerr
			case errors.Is(err, io.EOF):
				return nil
			case d.Entrance.Stop.Err() != nil:
				return fault.New(fault.Unavailable, "the server ends; send again")
			case fault.KindOf(err) != fault.Internal:
				return err
			}
			return fault.Wrap(fault.Invalid, "the body broke off", err)
		}
		batch = append(batch, entry)
		size += len(entry.Body)
		// What is here does not wait for what has not come.
		if len(batch) == maxBatchEntries || size >= maxBatchBytes || !in.Pending() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// patient moves the deadline of a body with every read.
type patient struct {
	io.Reader
	control *http.ResponseController
	stop    context.Context
}

func (p *patient) Read(b []byte) (int, error) {
	// An error says that there is no connection, so that nothing can hang on it.
	_ = p.control.SetReadDeadline(time.Now().Add(idleTimeout))
	// Asked afterwards: the deadline that ends the read must not be put off.
	if err := p.stop.Err(); err != nil {
		return 0, err
	}
	return p.Reader.Read(b)
}
