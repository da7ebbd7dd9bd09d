package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const lostRaceText = "the storage operation kept losing against concurrent ones"

// class is what an error of a driver means to the store.
type class uint8

const (
	classInternal class = iota // a mistake of ours, such as bad SQL
	classExists                // a key is taken
	classRace                  // the transaction lost a race and may be repeated
	classFull                  // no space, or another limit of the server
	classDamaged               // data on disk is damaged
	classAway                  // the database does not answer, or not now
)

// opaque keeps the text of a driver's error for the log and cuts its type off,
// so that no caller can come to depend on a driver.
type opaque struct{ text string }

func (e *opaque) Error() string { return e.text }

// cut keeps the text in one line: drivers list several causes in several.
func cut(text string) error {
	return &opaque{text: strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")}
}

func damagedFault(detail string) error {
	const public = "the database is damaged; restore it from a backup"
	if detail == "" {
		return fault.New(fault.Unavailable, public)
	}
	return fault.Wrap(fault.Unavailable, public, cut(detail))
}

// fault turns any error that leaves the package into a fault. Faults pass.
func (db *DB) fault(err error) error {
	if err == nil {
		return nil
	}
	// A context ends in the driver's words as often as in its own.
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			return fault.Wrap(fault.Unavailable, "the storage operation was cut off by its deadline or its caller", end)
		}
	}
	if isFault(err) {
		return err
	}
	cause := cut(err.Error())
	if errors.Is(err, errLostRace) {
		return fault.Wrap(fault.Unavailable, lostRaceText, cause)
	}
	switch db.engine.classify(err) {
	case classExists:
		return fault.Wrap(fault.Conflict, "the object already exists", cause)
	case classRace:
		return fault.Wrap(fault.Unavailable, lostRaceText, cause)
	case classFull:
		return fault.Wrap(fault.Exhausted, "the database has no space or resources left", cause)
	case classDamaged:
		if !db.damaged.Swap(true) {
			db.log.Error("database reports damaged data", "error", err.Error())
		}
		return damagedFault(err.Error())
	case classAway:
		return fault.Wrap(fault.Unavailable, "the database does not answer", cause)
	default:
		return fault.Wrap(fault.Internal, "storage operation", cause)
	}
}

// errLostRace marks a transaction that met a row it had not seen.
var errLostRace = errors.New("a concurrent transaction created the same row")

// lostRace reports whether a transaction may succeed when it is repeated.
func (db *DB) lostRace(err error) bool {
	return errors.Is(err, errLostRace) || db.engine.classify(err) == classRace
}

// isFault reports whether the package, or a function it was given, classified
// the error already. Errors of drivers never are.
func isFault(err error) bool { return fault.KindOf(err) != fault.Internal }

// closedPool reports errors of database/sql itself that mean "no connection".
func closedPool(err error) bool {
	return errors.Is(err, stdsql.ErrConnDone) || errors.Is(err, stdsql.ErrTxDone)
}
