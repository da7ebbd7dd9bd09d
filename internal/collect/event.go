package collect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// Entry is one foreign log entry.
type Entry struct {
	Kind auditapi.AuditSourceKind
	// ID tells the entry from all others of its writer; an entry that comes
	// again has the same.
	ID string
	// Series and Number are where the entry stands in a numbered series of its
	// writer; Series is "" for none.
	Series string
	Number uint64
	// Cursor is recorded as it is, where the protocol has one.
	Cursor string
	// Host is what the entry says of itself; it counts only where the writer
	// is a site as a whole.
	Host string
	// At is the time that the entry bears; zero for none.
	At time.Time
	// Body is a JSON object, bounded by [Body].
	Body json.RawMessage
	// Dropped says what did not fit, as [Body.Close] returns it.
	Dropped string
}

// Peer is the other end of a connection.
type Peer struct{ Address, Agent string }

// ways are what differs by kind: the path at which, or as if at which, entries
// arrive, and the subresource of the host that they are.
var ways = map[auditapi.AuditSourceKind]struct{ path, subresource string }{
	auditapi.AuditSourceJournal: {"/journal", "journal"},
	auditapi.AuditSourceSyslog:  {"/syslog", "syslog"},
	auditapi.AuditSourceOTLP:    {"/v1/logs", "logs"},
}

// Group and resource of the object that a collected event is about.
const (
	HostGroup    = "fleet.gatehouse.dev"
	HostResource = "hosts"
)

// User is who records what the control plane notices by itself.
const User = "system:gatehouse"

// Verb of a collected event.
const Verb = "log"

// AnnotationClaimedHost is the host that an entry names when its writer is
// bound to another.
const AnnotationClaimedHost = "audit.gatehouse.dev/claimed-host"

// Event returns an entry in the form of the record. Who wrote it, from where
// and when it arrived is what we know ourselves; the rest is what it says.
func (w Writer) Event(ids *IDs, e *Entry, from Peer, received time.Time) audit.Event {
	way := ways[e.Kind]
	host := w.Host
	if host == "" {
		host = Clip(e.Host, maxHost)
	}
	out := audit.Event{
		Level: audit.LevelRequest, Stage: audit.StageResponseComplete, Verb: Verb,
		AuditID:    w.id(ids, e),
		RequestURI: "/sites/" + w.Site + way.path,
		User:       audit.UserInfo{Username: w.User(), Groups: []string{w.Group()}},
		UserAgent:  Clip(from.Agent, maxAgent), SourceIPs: []string{from.Address},
		ObjectRef:                &audit.ObjectReference{APIGroup: HostGroup, Resource: HostResource, Name: host, Subresource: way.subresource},
		RequestObject:            e.Body,
		RequestReceivedTimestamp: audit.MicroTime{Time: e.At}, StageTimestamp: audit.MicroTime{Time: received},
		Annotations: map[string]string{audit.AnnotationCredential: w.Credential, audit.AnnotationHost: host},
	}
	if e.At.IsZero() {
		out.RequestReceivedTimestamp = out.StageTimestamp
	}
	set := func(key, value string) {
		if value != "" {
			out.Annotations[key] = value
		}
	}
	set(audit.AnnotationSource, w.Source)
	set(audit.AnnotationCursor, Clip(e.Cursor, maxCursor))
	if e.Host != "" && e.Host != host {
		set(AnnotationClaimedHost, Clip(e.Host, maxHost))
	}
	if e.Dropped != "" {
		set(audit.AnnotationTruncated, "true")
		set(audit.AnnotationDropped, e.Dropped)
	}
	return out
}

// Bounds of what an entry says of itself, in bytes.
const (
	maxHost   = 253
	maxCursor = 512
	maxAgent  = 256
)

// id is the same for the same entry of the same writer. Of a site's own
// certificate the host is a part of it: the hosts behind it must not hide each
// other's entries.
func (w Writer) id(ids *IDs, e *Entry) string {
	if w.Source == "" {
		return ids.ID(string(e.Kind), w.Site, "", e.Host, e.ID)
	}
	return ids.ID(string(e.Kind), w.Site, w.Source, e.ID)
}

// IDs makes the auditIDs of what is recorded in the name of a site. An event of
// a site whose auditID is on record already is taken for a repetition, and a
// site says itself which auditIDs the events of its own kube-apiserver bear. So
// nobody but the control plane may be able to tell beforehand which one a gap or
// an entry of a host will have. It is safe for concurrent use.
type IDs struct{ key secret.Bytes }

// NewIDs takes the key, which all replicas share.
func NewIDs(key [32]byte) *IDs { return &IDs{secret.NewBytes(key[:])} }

// ID returns an auditID that is the same for the same parts, a UUID of version
// 8 (RFC 9562).
func (i *IDs) ID(parts ...string) string {
	h := hmac.New(sha256.New, i.key.Reveal())
	for _, part := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	var id uuid.UUID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
