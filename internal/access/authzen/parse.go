package authzen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds on a request. The size of the body is bounded by the door.
const (
	// MaxEvaluations is how many questions one batch may hold.
	MaxEvaluations = 10_000
	maxDepth       = 32 // of nested properties
)

type wireEntity struct {
	Type       *string        `json:"type"`
	ID         *string        `json:"id"`
	Properties map[string]any `json:"properties"`
}

type wireAction struct {
	Name       *string        `json:"name"`
	Properties map[string]any `json:"properties"`
}

type wireEvaluation struct {
	Subject  *wireEntity    `json:"subject"`
	Action   *wireAction    `json:"action"`
	Resource *wireEntity    `json:"resource"`
	Context  map[string]any `json:"context"`
}

type wireBatch struct {
	wireEvaluation
	Evaluations []wireEvaluation `json:"evaluations"`
	Options     struct {
		Semantic *Semantic `json:"evaluations_semantic"`
	} `json:"options"`
}

// IsJSON reports whether a content type is JSON in UTF-8. The media type has no
// parameters (RFC 8259, section 11), but charset is often sent.
func IsJSON(contentType string) bool {
	kind, parameters, err := mime.ParseMediaType(contentType)
	charset, given := parameters["charset"]
	return err == nil && kind == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// ParseEvaluation reads the body of a single evaluation. Errors are of kind
// Invalid and name the field. Keys that the specification does not know are
// ignored, as it asks; a key that appears twice in one object is refused,
// because two readers could then see two questions.
func ParseEvaluation(body []byte) (Evaluation, error) {
	var w wireEvaluation
	if err := decode(body, &w); err != nil {
		return Evaluation{}, err
	}
	return w.evaluation("", required{subject: true, action: true, resource: true})
}

// ParseBatch reads the body of a batch. A fault in one of its questions is
// kept in the question; an error is about the request as a whole.
func ParseBatch(body []byte) (Batch, error) {
	var w wireBatch
	if err := decode(body, &w); err != nil {
		return Batch{}, err
	}
	batch := Batch{Semantic: ExecuteAll}
	if s := w.Options.Semantic; s != nil {
		switch *s {
		case ExecuteAll, DenyOnFirstDeny, PermitOnFirstPermit:
			batch.Semantic = *s
		default:
			return Batch{}, fault.Newf(fault.Invalid, "options.evaluations_semantic: %q is not one of %s, %s, %s", *s, ExecuteAll, DenyOnFirstDeny, PermitOnFirstPermit)
		}
	}
	if len(w.Evaluations) == 0 {
		e, err := w.evaluation("", required{subject: true, action: true, resource: true})
		if err != nil {
			return Batch{}, err
		}
		batch.Single, batch.Items = true, []Item{{Evaluation: e}}
		return batch, nil
	}
	if len(w.Evaluations) > MaxEvaluations {
		return Batch{}, fault.Newf(fault.Invalid, "evaluations: at most %d are answered in one request", MaxEvaluations)
	}
	batch.Items = make([]Item, len(w.Evaluations))
	for i, item := range w.Evaluations {
		// Defaults are taken or replaced as a whole (section 7.1.1).
		if item.Subject == nil {
			item.Subject = w.Subject
		}
		if item.Action == nil {
			item.Action = w.Action
		}
		if item.Resource == nil {
			item.Resource = w.Resource
		}
		if item.Context == nil {
			item.Context = w.Context
		}
		e, err := item.evaluation(fmt.Sprintf("evaluations[%d].", i), required{subject: true, action: true, resource: true})
		batch.Items[i] = Item{Evaluation: e, Err: err}
	}
	return batch, nil
}

// required tells which identifiers a request must hold; types are always.
type required struct{ subject, action, resource bool }

func (w *wireEvaluation) evaluation(at string, need required) (Evaluation, error) {
	var e Evaluation
	var err error
	if e.Subject, err = w.Subject.entity(at+"subject", need.subject); err != nil {
		return Evaluation{}, err
	}
	if e.Resource, err = w.Resource.entity(at+"resource", need.resource); err != nil {
		return Evaluation{}, err
	}
	if need.action {
		if w.Action == nil {
			return Evaluation{}, missing(at + "action")
		}
		if e.Action.Name, err = identifier(w.Action.Name, at+"action.name", false); err != nil {
			return Evaluation{}, err
		}
		e.Action.Properties = w.Action.Properties
	}
	e.Context = w.Context
	return e, nil
}

func (w *wireEntity) entity(at string, needID bool) (Entity, error) {
	if w == nil {
		return Entity{}, missing(at)
	}
	e := Entity{Properties: w.Properties}
	var err error
	if e.Type, err = identifier(w.Type, at+".type", false); err != nil {
		return Entity{}, err
	}
	// A search ignores the id of what it searches for (section 8).
	if needID {
		if e.ID, err = identifier(w.ID, at+".id", true); err != nil {
			return Entity{}, err
		}
	}
	return e, nil
}

func identifier(s *string, at string, mayBeEmpty bool) (string, error) {
	switch {
	case s == nil, *s == "" && !mayBeEmpty:
		return "", missing(at)
	case len(*s) > limit.Attribute:
		return "", limit.TooLong(at, len(*s), limit.Attribute)
	}
	return *s, nil
}

func missing(at string) error { return fault.Newf(fault.Invalid, "%s: is required", at) }

// decode reads exactly one JSON object.
func decode(body []byte, into any) error {
	if !utf8.Valid(body) {
		return fault.New(fault.Invalid, "the request is not valid UTF-8")
	}
	if err := checkShape(body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fault.Newf(fault.Invalid, "%s: is not of the expected type, but a JSON %s", typed.Field, typed.Value)
		}
		return fault.Wrap(fault.Invalid, "the request is not valid JSON", err)
	}
	return nil
}

// frame is one open object or array.
type frame struct {
	keys map[string]bool // nil for an array
	// free objects are properties and context, whose keys are the caller's
	// own. Elsewhere the decoder matches keys without regard to case, so two
	// that differ in case only are one.
	free bool
	// value is whether the value of the last key is free.
	value bool
}

// checkShape refuses whatever is not one object, repeated keys and nesting
// beyond maxDepth.
func checkShape(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var open []frame
	key := false // the next string is a key
	for first := true; ; first = false {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && !first && len(open) == 0 {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Invalid, "the request is not valid JSON", err)
		}
		if len(open) == 0 && (!first || token != json.Delim('{')) {
			return fault.New(fault.Invalid, "the request is not one JSON object")
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(open) == maxDepth {
				return fault.Newf(fault.Invalid, "the request is nested deeper than %d", maxDepth)
			}
			var f frame
			if n := len(open); n > 0 {
				f.free = open[n-1].value
				f.value = f.free
			}
			if token == json.Delim('{') {
				f.keys = map[string]bool{}
			}
			open = append(open, f)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if key {
				if err := open[len(open)-1].add(token.(string)); err != nil {
					return err
				}
				key = false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1].keys != nil
	}
}

func (f *frame) add(name string) error {
	folded := name
	if !f.free {
		// Both directions, for letters such as the long s and the Kelvin
		// sign, which fold one way only.
		folded = strings.ToLower(strings.ToUpper(name))
		f.value = folded == "properties" || folded == "context"
	}
	if f.keys[folded] {
		return fault.Newf(fault.Invalid, "the key %q appears twice in one object", name)
	}
	f.keys[folded] = true
	return nil
}
