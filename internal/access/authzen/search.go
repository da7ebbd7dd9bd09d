package authzen

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	// MaxPage is how many results one page holds at most, and how many it
	// holds when the caller sets no limit.
	MaxPage      = 1000
	maxPageToken = 256
)

// Search is a request of one of the three searches. What is searched for has
// no id (or name): one that is sent is ignored (section 8).
type Search struct {
	Evaluation
	Page PageRequest
}

// PageRequest chooses a page (section 8.2.1).
type PageRequest struct {
	Token string
	// Limit is the most that the caller wants, 0 to MaxPage. 0 asks how many
	// there are.
	Limit int
}

// PageResponse says where a page stands (section 8.2.2).
type PageResponse struct {
	// NextToken is empty on the last page.
	NextToken string `json:"next_token"`
	Count     int    `json:"count"`
	Total     int    `json:"total"`
}

// Results is one page of a search for entities.
type Results[T any] struct {
	Page    PageResponse `json:"page"`
	Results []T          `json:"results"`
}

type wireSearch struct {
	wireEvaluation
	Page *struct {
		Token string `json:"token"`
		Limit *int   `json:"limit"`
	} `json:"page"`
}

// ParseSubjectSearch reads the body of a subject search (section 8.4).
func ParseSubjectSearch(body []byte) (Search, error) {
	return parseSearch(body, required{action: true, resource: true})
}

// ParseResourceSearch reads the body of a resource search (section 8.5).
func ParseResourceSearch(body []byte) (Search, error) {
	return parseSearch(body, required{subject: true, action: true})
}

// ParseActionSearch reads the body of an action search (section 8.6).
func ParseActionSearch(body []byte) (Search, error) {
	return parseSearch(body, required{subject: true, resource: true})
}

func parseSearch(body []byte, need required) (Search, error) {
	var w wireSearch
	if err := decode(body, &w); err != nil {
		return Search{}, err
	}
	e, err := w.evaluation("", need)
	if err != nil {
		return Search{}, err
	}
	s := Search{Evaluation: e, Page: PageRequest{Limit: MaxPage}}
	if w.Page == nil {
		return s, nil
	}
	if len(w.Page.Token) > maxPageToken {
		return Search{}, fault.Newf(fault.Invalid, "page.token: longer than %d bytes", maxPageToken)
	}
	s.Page.Token = w.Page.Token
	if limit := w.Page.Limit; limit != nil {
		if *limit < 0 {
			return Search{}, fault.New(fault.Invalid, "page.limit: must not be negative")
		}
		s.Page.Limit = min(*limit, MaxPage)
	}
	return s, nil
}

// Paginate cuts a page out of all results, which it sorts and frees of
// repetitions by key. A token goes on behind the last result of its page, so
// that results which appear or vanish between two pages neither repeat nor
// hide others. It is bound to the question, properties, context and limit
// included: with another it is refused (section 8.2).
func Paginate[T any](s *Search, all []T, key func(T) string) (Results[T], error) {
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	all = slices.CompactFunc(all, func(a, b T) bool { return key(a) == key(b) })
	start := 0
	if s.Page.Token != "" {
		digest, err := base64.RawURLEncoding.DecodeString(s.Page.Token)
		if err != nil || len(digest) != 16 || binary.BigEndian.Uint64(digest) != s.digest() {
			return Results[T]{}, fault.New(fault.Invalid, "page.token: is not of this search")
		}
		if last := binary.BigEndian.Uint64(digest[8:]); last != atStart {
			i := slices.IndexFunc(all, func(t T) bool { return hash(key(t)) == last })
			if i < 0 {
				return Results[T]{}, fault.New(fault.Conflict, "page.token: the result that it stands behind is gone, start over")
			}
			start = i + 1
		}
	}
	end := min(start+s.Page.Limit, len(all))
	page := Results[T]{Results: append([]T{}, all[start:end]...)}
	page.Page.Count, page.Page.Total = end-start, len(all)
	if end < len(all) {
		token := binary.BigEndian.AppendUint64(nil, s.digest())
		last := uint64(atStart)
		if end > 0 {
			last = hash(key(all[end-1]))
		}
		token = binary.BigEndian.AppendUint64(token, last)
		page.Page.NextToken = base64.RawURLEncoding.EncodeToString(token)
	}
	return page, nil
}

// atStart stands in a token for the place before the first result, where a
// limit of 0 leaves its caller.
const atStart = 0

// digest names the question and the limit. It is no proof of anything: a caller
// who forges a token sees another page of its own results.
func (s *Search) digest() uint64 {
	parts := []string{s.Subject.Type, s.Subject.ID, s.Action.Name, s.Resource.Type, s.Resource.ID, strconv.Itoa(s.Page.Limit)}
	for _, object := range []map[string]any{s.Subject.Properties, s.Action.Properties, s.Resource.Properties, s.Context} {
		text, err := json.Marshal(object) // in the order of its keys
		if err != nil {                   // it came from JSON
			text = nil
		}
		parts = append(parts, string(text))
	}
	return hash(parts...)
}

func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0xff}) // in no UTF-8 text
	}
	return h.Sum64()
}

// EntityKey orders entities.
func EntityKey(e Entity) string { return e.Type + "\x00" + e.ID }

// ActionKey orders actions.
func ActionKey(a Action) string { return a.Name }
