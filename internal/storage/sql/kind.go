package sql

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of a row. They are bytes unless said otherwise.
const (
	maxNamespace  = 63
	maxName       = 253
	maxUID        = 128
	maxLabels     = 128 // labels of a row
	maxLabelKey   = 317 // a DNS prefix of 253, a slash, a name of 63
	maxLabelValue = 63
	maxFields     = 16 // declared fields of a kind
	maxFieldValue = 1024
	maxOwners     = 32 // owners of a row

	// DefaultMaxPayload bounds the payload of a kind that sets no bound: 1.5
	// MiB, what the API accepts as one object.
	DefaultMaxPayload = 3 << 19
)

// Kind describes a kind that is served from rows. It is all that a further
// kind costs: its tables are created when the database is opened with it.
type Kind struct {
	// Name names the tables: lower case letters, digits and underscores, at
	// most 40, starting with a letter. It cannot change later.
	Name string
	// Namespaced says whether rows must (true) or must not have a namespace.
	Namespaced bool
	// Fields are the names, such as spec.severity, that lists can select by
	// equality.
	Fields []string
	// Derive returns the values of Fields for a row; a name left out has the
	// value "". It is called on every write and must be a pure function of the
	// row's key, labels, owners and payload. Nil if there are no Fields.
	Derive func(*Row) (map[string]string, error)
	// Version counts changes to Fields and Derive, from 1. When Open meets
	// rows of a lower version it derives their fields anew; when it meets a
	// higher one it refuses, because an old program would write rows that new
	// ones cannot find.
	Version int64
	// MaxPayload bounds a payload in bytes; 0 is DefaultMaxPayload.
	MaxPayload int
}

// Key identifies a row within its kind. Namespace is empty exactly for kinds
// that are not namespaced.
type Key struct{ Namespace, Name string }

func (k Key) compare(other Key) int {
	if c := strings.Compare(k.Namespace, other.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, other.Name)
}

// Row is one object. Its columns are the truth about key, UID, revision,
// creation time and labels: a payload should leave them out, and its decoder
// set them from here.
type Row struct {
	Key
	// UID is given by the creator and never changes while the row exists.
	UID string
	// Revision is set by the store. It is the resourceVersion.
	Revision int64
	// Created has microseconds; the store sets it if it is zero.
	Created time.Time
	// Labels are what List selects by. Keys and values are bounded, but their
	// grammar is the caller's to check.
	Labels map[string]string
	// Owners are the UIDs of the owners, for finding dependents.
	Owners []string
	// Fields are derived by Kind.Derive. Values given to a write are ignored.
	Fields map[string]string
	// Payload is the object as its kind encodes it; the store never looks in.
	Payload []byte
}

// Precondition is what must hold of the stored row for a change to happen. The
// zero value asks nothing but that the row exists.
type Precondition struct {
	UID      string // "" = any
	Revision int64  // 0 = any
}

func (p Precondition) check(row *Row) error {
	if p.UID != "" && p.UID != row.UID {
		return fault.Newf(fault.Conflict, "the UID in the precondition (%s) is not that of the stored object (%s)", p.UID, row.UID)
	}
	if p.Revision != 0 && p.Revision != row.Revision {
		return fault.New(fault.Conflict, "the object has been modified; apply the change to the latest version and try again")
	}
	return nil
}

var kindName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// validate reports mistakes of the program, not of a user.
func (k *Kind) validate() error {
	switch {
	case !kindName.MatchString(k.Name):
		return fmt.Errorf("kind %q: the name must match %s", k.Name, kindName)
	case strings.HasSuffix(k.Name, "_terms"):
		return fmt.Errorf("kind %q: the suffix _terms is taken by index tables", k.Name)
	case k.Version < 1:
		return fmt.Errorf("kind %q: version must be at least 1", k.Name)
	case len(k.Fields) > maxFields:
		return fmt.Errorf("kind %q: at most %d fields", k.Name, maxFields)
	case (len(k.Fields) > 0) != (k.Derive != nil):
		return fmt.Errorf("kind %q: Fields and Derive must be given together", k.Name)
	case k.MaxPayload < 0:
		return fmt.Errorf("kind %q: negative MaxPayload", k.Name)
	}
	seen := map[string]bool{}
	for _, f := range k.Fields {
		if f == "" || seen[f] {
			return fmt.Errorf("kind %q: field %q is empty or repeated", k.Name, f)
		}
		seen[f] = true
	}
	return nil
}

func (k *Kind) maxPayload() int {
	if k.MaxPayload == 0 {
		return DefaultMaxPayload
	}
	return k.MaxPayload
}

// text rejects what one of the engines cannot hold in a text column.
func text(what, s string, most int) error {
	switch {
	case len(s) > most:
		return fault.Newf(fault.Invalid, "%s: must be at most %d bytes", what, most)
	case !utf8.ValidString(s):
		return fault.Newf(fault.Invalid, "%s: must be UTF-8", what)
	case strings.IndexByte(s, 0) >= 0:
		return fault.Newf(fault.Invalid, "%s: must not contain a NUL byte", what)
	}
	return nil
}

func (k *Kind) checkKey(key Key) error {
	if err := text("metadata.namespace", key.Namespace, maxNamespace); err != nil {
		return err
	}
	if err := text("metadata.name", key.Name, maxName); err != nil {
		return err
	}
	switch {
	case key.Name == "":
		return fault.New(fault.Invalid, "metadata.name: required")
	case k.Namespaced && key.Namespace == "":
		return fault.New(fault.Invalid, "metadata.namespace: required")
	case !k.Namespaced && key.Namespace != "":
		return fault.New(fault.Invalid, "metadata.namespace: not allowed on this kind")
	}
	return nil
}

// prepareNew is prepare for a row that may not exist yet.
func (k *Kind) prepareNew(in *Row) (*Row, error) {
	if in.UID == "" {
		return nil, fault.New(fault.Invalid, "metadata.uid: required")
	}
	if err := text("metadata.uid", in.UID, maxUID); err != nil {
		return nil, err
	}
	return k.prepare(in)
}

// prepare validates a row to be written and returns a copy with derived
// fields. The copy shares the payload.
func (k *Kind) prepare(in *Row) (*Row, error) {
	row := *in
	if err := k.checkKey(row.Key); err != nil {
		return nil, err
	}
	if len(row.Payload) > k.maxPayload() {
		return nil, fault.Newf(fault.Invalid, "object: must be at most %d bytes", k.maxPayload())
	}
	if len(row.Labels) > maxLabels {
		return nil, fault.Newf(fault.Invalid, "metadata.labels: must have at most %d items", maxLabels)
	}
	for key, value := range row.Labels {
		if key == "" {
			return nil, fault.New(fault.Invalid, "metadata.labels: a key is empty")
		}
		if err := text("metadata.labels", key, maxLabelKey); err != nil {
			return nil, err
		}
		if err := text("metadata.labels", value, maxLabelValue); err != nil {
			return nil, err
		}
	}
	if len(row.Owners) > maxOwners {
		return nil, fault.Newf(fault.Invalid, "metadata.ownerReferences: must have at most %d items", maxOwners)
	}
	for _, owner := range row.Owners {
		if owner == "" {
			return nil, fault.New(fault.Invalid, "metadata.ownerReferences: a UID is empty")
		}
		if err := text("metadata.ownerReferences", owner, maxUID); err != nil {
			return nil, err
		}
	}
	// What is returned at once and what is read later look the same.
	if row.Payload == nil {
		row.Payload = []byte{}
	}
	if len(row.Labels) == 0 {
		row.Labels = nil
	}
	if len(row.Owners) == 0 {
		row.Owners = nil
	}
	if err := k.derive(&row); err != nil {
		return nil, err
	}
	return &row, nil
}

// derive sets row.Fields.
func (k *Kind) derive(row *Row) error {
	row.Fields = nil
	if k.Derive == nil {
		return nil
	}
	values, err := k.Derive(row)
	if err != nil {
		return fmt.Errorf("derive fields of %s %s/%s: %w", k.Name, row.Namespace, row.Name, err)
	}
	fields := maps.Clone(values)
	for name, value := range fields {
		if !slices.Contains(k.Fields, name) {
			return fault.Newf(fault.Internal, "kind %s derives the undeclared field %q", k.Name, name)
		}
		if err := text(name, value, maxFieldValue); err != nil {
			return err
		}
		if value == "" {
			delete(fields, name)
		}
	}
	if len(fields) > 0 {
		row.Fields = fields
	}
	return nil
}
