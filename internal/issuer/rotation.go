package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// KeyRecord is what is stored of one signing key beside the sealed key itself.
type KeyRecord struct {
	// ID is that of the public key.
	ID string
	// Published is when the key entered the key set.
	Published time.Time
	// SignsFrom is when it takes over signing. It signs until the next key
	// does.
	SignsFrom time.Time
	// LongestLifetime is the longest that a token signed by it can live. It is
	// raised, and stored, before a higher cap takes effect.
	LongestLifetime time.Duration
}

// Schedule says how signing keys follow each other: each is published before
// it signs, so that verifiers who keep the key set know it by then, and
// verifies after it signed, until no token of its can be in use.
type Schedule struct {
	// Period is how long a key signs.
	Period time.Duration
	// Ahead is how long a key is published before it signs; at least
	// MaxAgeSeconds.
	Ahead time.Duration
	// MaxLifetime is the cap on tokens.
	MaxLifetime time.Duration
}

// skew is how far the clocks of replicas and the leeway of verifiers may
// stretch the use of a key.
const skew = 5 * time.Minute

// maxKeys bounds how many keys may verify at once: more would mean that
// somebody rotates in a loop.
const maxKeys = 32

// Validate refuses a schedule that could not keep its promises.
func (s Schedule) Validate() error {
	switch {
	case s.Ahead < MaxAgeSeconds*time.Second:
		return fmt.Errorf("a key must be published at least %v before it signs", MaxAgeSeconds*time.Second)
	case s.Period < s.Ahead+time.Hour:
		return errors.New("a key must sign at least an hour longer than its successor is published before")
	case s.MaxLifetime < MinLifetime || s.MaxLifetime > longestLifetime:
		return fmt.Errorf("the longest lifetime of a token must be between %v and %v", MinLifetime, longestLifetime)
	case s.MaxLifetime/s.Period >= maxKeys-2:
		return errors.New("keys change so often that too many would have to verify")
	}
	return nil
}

// Plan is what to do about the keys at one time. Whoever carries it out stores
// Records first and puts keys into force after.
type Plan struct {
	// Signing is the key that signs now; "" before the first exists.
	Signing string
	// Published are all that verify now, the signing one among them.
	Published []string
	// Retire are keys that no valid token can need: to be deleted.
	Retire []string
	// Create asks for a new key with these times, its ID to be filled in.
	Create *KeyRecord
	// Records are those to store anew because something in them changed.
	Records []KeyRecord
	// Next is when the plan changes by itself.
	Next time.Time
}

// Plan looks at all records of one issuer. It depends on nothing but its
// arguments, so that every replica comes to the same plan; only one of them
// may carry out Create and Retire.
func (s Schedule) Plan(records []KeyRecord, now time.Time) Plan {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b KeyRecord) int {
		return cmp.Or(a.SignsFrom.Compare(b.SignsFrom), cmp.Compare(a.ID, b.ID))
	})
	var p Plan
	next := func(at time.Time) {
		if at.After(now) && (p.Next.IsZero() || at.Before(p.Next)) {
			p.Next = at
		}
	}
	signing := -1
	for i := range records {
		if !records[i].SignsFrom.After(now) {
			signing = i
		}
	}
	for i, r := range records {
		if i == signing || i > signing {
			p.Published = append(p.Published, r.ID)
			next(r.SignsFrom)
			continue
		}
		// It stopped signing when the next one began.
		needed := records[i+1].SignsFrom.Add(r.LongestLifetime + skew)
		if needed.After(now) {
			p.Published = append(p.Published, r.ID)
			next(needed)
		} else {
			p.Retire = append(p.Retire, r.ID)
		}
	}
	switch {
	case signing < 0 && len(records) == 0:
		p.Create = &KeyRecord{Published: now, SignsFrom: now, LongestLifetime: s.MaxLifetime}
	case signing >= 0:
		p.Signing = records[signing].ID
		if records[signing].LongestLifetime < s.MaxLifetime {
			records[signing].LongestLifetime = s.MaxLifetime
			p.Records = append(p.Records, records[signing])
		}
		if signing == len(records)-1 {
			due := records[signing].SignsFrom.Add(s.Period - s.Ahead)
			if due.After(now) {
				next(due)
			} else if len(p.Published) < maxKeys {
				p.Create = s.successor(now)
			}
		}
	}
	return p
}

// Rotate returns the record of a key to create by command, or an error when
// one is on its way or too many verify already.
func (s Schedule) Rotate(records []KeyRecord, now time.Time) (*KeyRecord, error) {
	for _, r := range records {
		if r.SignsFrom.After(now) {
			return nil, fmt.Errorf("key %s already takes over at %s", r.ID, r.SignsFrom.UTC().Format(time.RFC3339))
		}
	}
	if len(s.Plan(records, now).Published) >= maxKeys {
		return nil, fmt.Errorf("%d keys still verify; more cannot be added before one retires", maxKeys)
	}
	if len(records) == 0 {
		return &KeyRecord{Published: now, SignsFrom: now, LongestLifetime: s.MaxLifetime}, nil
	}
	return s.successor(now), nil
}

// Replace returns the record of a key that signs at once, for when the keys
// given were stolen: whoever carries it out deletes those in the same step,
// which ends every token that they signed.
func (s Schedule) Replace(now time.Time) *KeyRecord {
	return &KeyRecord{Published: now, SignsFrom: now, LongestLifetime: s.MaxLifetime}
}

func (s Schedule) successor(now time.Time) *KeyRecord {
	return &KeyRecord{Published: now, SignsFrom: now.Add(s.Ahead), LongestLifetime: s.MaxLifetime}
}
