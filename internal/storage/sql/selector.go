package sql

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Op is how a [Requirement] compares. The operators of label selectors map to
// it one to one: = and == are In with one value, != is NotIn with one.
type Op uint8

// The operators. The zero Op is refused.
const (
	In        Op = iota + 1 // the value is one of Values
	NotIn                   // there is no value, or it is none of Values
	Exists                  // there is a value
	NotExists               // there is no value
	Greater                 // the value is an integer above Values[0]
	Less                    // the value is an integer below Values[0]
)

// Requirement is one condition on a label or a field.
type Requirement struct {
	Name   string // label key or field name
	Op     Op
	Values []string
}

// FieldName and FieldNamespace are fields that every kind has.
const (
	FieldName      = "metadata.name"
	FieldNamespace = "metadata.namespace"
)

const (
	maxRequirements = 64   // of a list
	maxValues       = 1000 // of a requirement
	// maxDriverValues is how many posting lists are merged in one statement;
	// larger sets are looked for among the rows that have the label at all.
	maxDriverValues = 16
)

// query is a validated list request.
type query struct {
	namespace string // "" = all
	name      string // "" = all
	labels    []Requirement
	fields    []Requirement
	owner     string
	limit     int
	after     Key
	never     bool // contradictory: nothing can match
	digest    [16]byte
}

// newQuery validates opts; its errors are fault.Invalid.
func (k *Kind) newQuery(opts ListOptions) (*query, error) {
	q := &query{namespace: opts.Namespace, owner: opts.Owner, limit: opts.Limit}
	if opts.Limit < 0 {
		return nil, fault.New(fault.Invalid, "limit: must not be negative")
	}
	if q.limit == 0 || q.limit > MaxPageRows {
		q.limit = MaxPageRows
	}
	if opts.Namespace != "" && !k.Namespaced {
		return nil, fault.New(fault.Invalid, "namespace: not allowed on this kind")
	}
	if err := text("namespace", opts.Namespace, maxNamespace); err != nil {
		return nil, err
	}
	if err := text("owner", opts.Owner, maxUID); err != nil {
		return nil, err
	}
	if len(opts.Labels)+len(opts.Fields) > maxRequirements {
		return nil, fault.Newf(fault.Invalid, "selector: must have at most %d requirements", maxRequirements)
	}
	for _, r := range opts.Labels {
		if err := r.check("labelSelector"); err != nil {
			return nil, err
		}
		q.labels = append(q.labels, r)
	}
	for _, r := range opts.Fields {
		if err := r.check("fieldSelector"); err != nil {
			return nil, err
		}
		if r.Op != In && r.Op != NotIn {
			return nil, fault.New(fault.Invalid, "fieldSelector: fields support only =, == and !=")
		}
		if r.Name != FieldName && r.Name != FieldNamespace && !slices.Contains(k.Fields, r.Name) {
			return nil, fault.Newf(fault.Invalid, "fieldSelector: %q is not a selectable field of this kind", r.Name)
		}
		if r.Op == In && len(r.Values) == 1 && r.Values[0] != "" && (r.Name == FieldName || r.Name == FieldNamespace && k.Namespaced) {
			q.narrow(r)
			continue
		}
		q.fields = append(q.fields, r)
	}
	q.digest = digest(k.Name, q)
	if opts.After != "" {
		if opts.Namespace == "" || opts.Continue != "" {
			return nil, fault.New(fault.Invalid, "after: needs a namespace, and cannot stand beside continue")
		}
		q.after = Key{Namespace: opts.Namespace, Name: opts.After}
		return q, text("after", opts.After, maxName)
	}
	if opts.Continue == "" {
		return q, nil
	}
	var err error
	q.after, err = parseContinue(opts.Continue, q)
	return q, err
}

// narrow turns an equality on the key into a bound of the walk.
func (q *query) narrow(r Requirement) {
	part := &q.name
	if r.Name == FieldNamespace {
		part = &q.namespace
	}
	if *part != "" && *part != r.Values[0] {
		q.never = true
	}
	*part = r.Values[0]
}

func (r *Requirement) check(where string) error {
	if r.Name == "" {
		return fault.Newf(fault.Invalid, "%s: a name is empty", where)
	}
	if err := text(where, r.Name, maxLabelKey); err != nil {
		return err
	}
	values := len(r.Values)
	switch {
	case r.Op < In || r.Op > Less:
		return fault.Newf(fault.Invalid, "%s: unknown operator", where)
	case (r.Op == In || r.Op == NotIn) && (values == 0 || values > maxValues):
		return fault.Newf(fault.Invalid, "%s: %s: needs 1 to %d values", where, r.Name, maxValues)
	case (r.Op == Exists || r.Op == NotExists) && values != 0:
		return fault.Newf(fault.Invalid, "%s: %s: takes no value", where, r.Name)
	case r.Op == Greater || r.Op == Less:
		if values != 1 {
			return fault.Newf(fault.Invalid, "%s: %s: takes one value", where, r.Name)
		}
		if _, err := strconv.ParseInt(r.Values[0], 10, 64); err != nil {
			return fault.Newf(fault.Invalid, "%s: %s: the value must be an integer", where, r.Name)
		}
	}
	for _, value := range r.Values {
		if err := text(where, value, maxFieldValue); err != nil {
			return err
		}
	}
	return nil
}

// matches decides one condition.
func (r *Requirement) matches(value string, present bool) bool {
	switch r.Op {
	case In:
		return present && slices.Contains(r.Values, value)
	case NotIn:
		return !present || !slices.Contains(r.Values, value)
	case Exists:
		return present
	case NotExists:
		return !present
	case Greater, Less:
		have, err := strconv.ParseInt(value, 10, 64)
		if !present || err != nil {
			return false
		}
		want, err := strconv.ParseInt(r.Values[0], 10, 64)
		if err != nil {
			return false
		}
		return r.Op == Greater && have > want || r.Op == Less && have < want
	default:
		return false
	}
}

// matches decides all conditions on a row. Every row of a result passed it,
// whichever index led to the row.
func (q *query) matches(row *Row) bool {
	if q.namespace != "" && row.Namespace != q.namespace || q.name != "" && row.Name != q.name {
		return false
	}
	if q.owner != "" && !slices.Contains(row.Owners, q.owner) {
		return false
	}
	for i := range q.labels {
		value, present := row.Labels[q.labels[i].Name]
		if !q.labels[i].matches(value, present) {
			return false
		}
	}
	for i := range q.fields {
		var value string
		switch q.fields[i].Name {
		case FieldName:
			value = row.Name
		case FieldNamespace:
			value = row.Namespace
		default:
			value = row.Fields[q.fields[i].Name]
		}
		if !q.fields[i].matches(value, true) { // an unset field has the value ""
			return false
		}
	}
	return true
}

// indexed returns, for each condition that posting lists can serve, the terms
// whose lists together hold every match.
func (q *query) indexed() [][]int64 {
	var choices [][]int64
	if q.owner != "" {
		choices = append(choices, []int64{term(termOwner, q.owner, "")})
	}
	for _, r := range q.labels {
		switch {
		case r.Op == In && len(r.Values) <= maxDriverValues:
			choices = append(choices, terms(termLabelValue, r))
		case r.Op == In, r.Op == Exists, r.Op == Greater, r.Op == Less:
			choices = append(choices, []int64{term(termLabelKey, r.Name, "")})
		}
	}
	for _, r := range q.fields {
		if r.Op == In && len(r.Values) <= maxDriverValues && !slices.Contains(r.Values, "") && r.Name != FieldName && r.Name != FieldNamespace {
			choices = append(choices, terms(termField, r))
		}
	}
	return choices
}

func terms(space byte, r Requirement) []int64 {
	list := make([]int64, 0, len(r.Values))
	for _, value := range r.Values {
		list = append(list, term(space, r.Name, value))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// digest names the set that a query selects, so that a continue token serves
// no other. Limits may differ between pages.
func digest(kind string, q *query) (d [16]byte) {
	var parts []string
	for _, group := range [][]Requirement{q.labels, q.fields} {
		var lines []string
		for _, r := range group {
			values := slices.Sorted(slices.Values(r.Values))
			lines = append(lines, frame(append([]string{r.Name, strconv.Itoa(int(r.Op))}, values...)...))
		}
		slices.Sort(lines)
		parts = append(parts, frame(lines...))
	}
	sum := sha256.Sum256([]byte(frame(append(parts, kind, q.namespace, q.name, q.owner)...)))
	copy(d[:], sum[:])
	return d
}

// frame joins parts so that no other parts give the same text.
func frame(parts ...string) string {
	var b strings.Builder
	var size [4]byte
	for _, p := range parts {
		binary.BigEndian.PutUint32(size[:], uint32(min(len(p), math.MaxUint32)))
		b.Write(size[:])
		b.WriteString(p)
	}
	return b.String()
}
