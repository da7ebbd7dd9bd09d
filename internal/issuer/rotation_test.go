package issuer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/issuer"
)

var schedule = issuer.Schedule{Period: 30 * 24 * time.Hour, Ahead: 2 * time.Hour, MaxLifetime: 24 * time.Hour}

func TestPlanStepByStep(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	first := issuer.KeyRecord{ID: "first", Published: start, SignsFrom: start, LongestLifetime: day}
	second := issuer.KeyRecord{ID: "second", Published: start.Add(30*day - 2*time.Hour), SignsFrom: start.Add(30 * day), LongestLifetime: day}
	over := start.Add(31*day + 5*time.Minute)
	cases := map[string]struct {
		records   []issuer.KeyRecord
		at        time.Time
		signing   string
		published []string
		retire    []string
		create    time.Time // SignsFrom of the key to create
		next      time.Time
	}{
		"no keys":              {nil, start, "", nil, nil, start, time.Time{}},
		"young":                {[]issuer.KeyRecord{first}, start.Add(day), "first", []string{"first"}, nil, time.Time{}, start.Add(30*day - 2*time.Hour)},
		"successor due":        {[]issuer.KeyRecord{first}, start.Add(30*day - 2*time.Hour), "first", []string{"first"}, nil, start.Add(30 * day), time.Time{}},
		"successor long due":   {[]issuer.KeyRecord{first}, start.Add(300 * day), "first", []string{"first"}, nil, start.Add(300*day + 2*time.Hour), time.Time{}},
		"announced":            {[]issuer.KeyRecord{second, first}, start.Add(30*day - time.Second), "first", []string{"first", "second"}, nil, time.Time{}, start.Add(30 * day)},
		"took over":            {[]issuer.KeyRecord{first, second}, start.Add(30 * day), "second", []string{"first", "second"}, nil, time.Time{}, over},
		"still needed":         {[]issuer.KeyRecord{first, second}, over.Add(-1), "second", []string{"first", "second"}, nil, time.Time{}, over},
		"no longer needed":     {[]issuer.KeyRecord{first, second}, over, "second", []string{"second"}, []string{"first"}, time.Time{}, start.Add(60*day - 2*time.Hour)},
		"only one announced":   {[]issuer.KeyRecord{second}, start, "", []string{"second"}, nil, time.Time{}, start.Add(30 * day)},
		"clock before its key": {[]issuer.KeyRecord{first}, start.Add(-time.Second), "", []string{"first"}, nil, time.Time{}, start},
	}
	for name, tc := range cases {
		p := schedule.Plan(tc.records, tc.at)
		if p.Signing != tc.signing || !slices.Equal(p.Published, tc.published) || !slices.Equal(p.Retire, tc.retire) || !p.Next.Equal(tc.next) || len(p.Records) != 0 {
			t.Errorf("%s: %+v", name, p)
		}
		if (p.Create != nil) != !tc.create.IsZero() || p.Create != nil && (!p.Create.SignsFrom.Equal(tc.create) || !p.Create.Published.Equal(tc.at) || p.Create.LongestLifetime != day) {
			t.Errorf("%s: create %+v", name, p.Create)
		}
	}
	raised := schedule
	raised.MaxLifetime = 48 * time.Hour
	if p := raised.Plan([]issuer.KeyRecord{first}, start.Add(day)); len(p.Records) != 1 || p.Records[0].ID != "first" || p.Records[0].LongestLifetime != 48*time.Hour {
		t.Errorf("a raised cap is not stored: %+v", p)
	}
	lowered := schedule
	lowered.MaxLifetime = time.Hour
	if p := lowered.Plan([]issuer.KeyRecord{first, second}, over.Add(-1)); len(p.Records) != 0 || len(p.Retire) != 0 {
		t.Errorf("a lowered cap forgets the tokens of before: %+v", p)
	}
}

func TestRotateAndReplace(t *testing.T) {
	t.Parallel()
	first := issuer.KeyRecord{ID: "first", Published: start, SignsFrom: start, LongestLifetime: 24 * time.Hour}
	now := start.Add(time.Hour)
	r, err := schedule.Rotate([]issuer.KeyRecord{first}, now)
	if err != nil || !r.SignsFrom.Equal(now.Add(2*time.Hour)) {
		t.Errorf("%+v, %v", r, err)
	}
	r.ID = "second"
	if _, err := schedule.Rotate([]issuer.KeyRecord{first, *r}, now); err == nil {
		t.Error("a second successor")
	}
	if r, err := schedule.Rotate(nil, now); err != nil || !r.SignsFrom.Equal(now) {
		t.Errorf("first key: %+v, %v", r, err)
	}
	replacement := schedule.Replace(now)
	replacement.ID = "new"
	if p := schedule.Plan([]issuer.KeyRecord{*replacement}, now); p.Signing != "new" {
		t.Errorf("%+v", p)
	}
	var many []issuer.KeyRecord
	for i := range 32 {
		many = append(many, issuer.KeyRecord{ID: fmt.Sprint(i), SignsFrom: start.Add(time.Duration(i) * time.Second), LongestLifetime: 1000 * time.Hour})
	}
	if _, err := schedule.Rotate(many, now); err == nil {
		t.Error("keys without end")
	}
	if p := schedule.Plan(many, start.Add(900*time.Hour)); p.Create != nil {
		t.Error("keys without end")
	}
}

func TestScheduleRefused(t *testing.T) {
	t.Parallel()
	if err := schedule.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*issuer.Schedule){
		"published too late":  func(s *issuer.Schedule) { s.Ahead = time.Hour - 1 },
		"period too short":    func(s *issuer.Schedule) { s.Period = 2 * time.Hour },
		"lifetime too short":  func(s *issuer.Schedule) { s.MaxLifetime = time.Minute },
		"lifetime too long":   func(s *issuer.Schedule) { s.MaxLifetime = 1000 * 24 * time.Hour },
		"too many would live": func(s *issuer.Schedule) { s.Period, s.MaxLifetime = 24*time.Hour, 365*24*time.Hour },
		"nothing set":         func(s *issuer.Schedule) { *s = issuer.Schedule{} },
	} {
		s := schedule
		change(&s)
		if err := s.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestNoTokenLosesItsKey runs an issuer for years with random schedules, caps,
// commands and outages, and holds it to what rotation promises: a token that
// has not expired verifies, a key signs only when it was published long
// enough, and keys do not pile up.
func TestNoTokenLosesItsKey(t *testing.T) {
	t.Parallel()
	type token struct {
		key     string
		expires time.Time
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := issuer.Schedule{
			Ahead:       time.Hour + time.Duration(r.Int64N(int64(24*time.Hour))),
			MaxLifetime: issuer.MinLifetime + time.Duration(r.Int64N(int64(20*24*time.Hour))),
		}
		s.Period = s.Ahead + time.Hour + time.Duration(r.Int64N(int64(60*24*time.Hour)))
		if s.Validate() != nil {
			continue
		}
		records := map[string]issuer.KeyRecord{}
		list := func() (out []issuer.KeyRecord) {
			for _, record := range records {
				out = append(out, record)
			}
			return out
		}
		var tokens []token
		now, made, signed := start, 0, map[string]bool{}
		create := func(record *issuer.KeyRecord) {
			record.ID = fmt.Sprintf("key-%d", made)
			records[record.ID] = *record
			made++
		}
		for range 1000 {
			if r.IntN(100) == 0 {
				if record, err := s.Rotate(list(), now); err == nil {
					create(record)
				}
			}
			if r.IntN(200) == 0 {
				s.MaxLifetime = issuer.MinLifetime + time.Duration(r.Int64N(int64(20*24*time.Hour)))
				if s.Validate() != nil {
					s.MaxLifetime = issuer.MinLifetime
				}
			}
			p := s.Plan(list(), now)
			for _, changed := range p.Records {
				records[changed.ID] = changed
			}
			for _, id := range p.Retire {
				delete(records, id)
			}
			if p.Create != nil {
				create(p.Create)
				p = s.Plan(list(), now)
			}
			if len(p.Published) > 32 || len(p.Published) == 0 || p.Signing == "" {
				t.Fatalf("seed %d: %d keys, %q signs", seed, len(p.Published), p.Signing)
			}
			if !signed[p.Signing] && made > 1 && p.Signing != "key-0" && now.Sub(records[p.Signing].Published) < s.Ahead {
				t.Fatalf("seed %d: %s signs %v after it was published", seed, p.Signing, now.Sub(records[p.Signing].Published))
			}
			signed[p.Signing] = true
			tokens = slices.DeleteFunc(tokens, func(tok token) bool {
				if now.After(tok.expires.Add(time.Minute)) {
					return true
				}
				if !slices.Contains(p.Published, tok.key) {
					t.Fatalf("seed %d: the key of a token that lives until %v is gone at %v", seed, tok.expires, now)
				}
				return false
			})
			tokens = append(tokens, token{p.Signing, now.Add(time.Duration(1 + r.Int64N(int64(s.MaxLifetime))))})
			step := time.Duration(r.Int64N(int64(12 * time.Hour)))
			if r.IntN(50) == 0 {
				step = time.Duration(r.Int64N(int64(100 * 24 * time.Hour)))
			}
			now = now.Add(step)
		}
	}
}
