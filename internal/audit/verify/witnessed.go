package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
)

// Witnessed is the newest checkpoint that a witness signed.
type Witnessed struct {
	Name string    `json:"name"`
	Size uint64    `json:"size"`
	At   time.Time `json:"at"`
}

// collectWitnessed claims what the witnesses in question have signed. Whoever
// holds the log's key cannot make such a signature, so each is an anchor.
func (c *check) collectWitnessed() error {
	for _, vkey := range c.o.Witnesses {
		by, err := witness.ParseVerifier(vkey)
		if err != nil {
			return err
		}
		candidates := append([][]byte(nil), c.o.Anchors...)
		// Only the witness's own file: the others are another's.
		file := witness.Dir + "/" + witness.Name(by)
		kept, err := vfs.ReadFile(c.o.FS, c.dir+"/"+file, 2*checkpoint.MaxSize)
		if err == nil {
			candidates = append(candidates, kept)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var newest *Witnessed
		for _, signed := range candidates {
			w, err := witness.Open(signed, c.verifiers, by)
			if err != nil || w.Origin != c.meta.Origin {
				continue
			}
			c.claims = append(c.claims, claim{w.Checkpoint, "what witness " + by.Name() + " signed", -1, true})
			if newest == nil || w.Size > newest.Size {
				newest = &Witnessed{Name: by.Name(), Size: w.Size, At: w.At}
			}
		}
		if newest == nil {
			c.r.fault(Fault{Kind: Signature, File: file, Offset: -1, Detail: fmt.Sprintf("no checkpoint of this log that witness %s signed", by.Name())})
			continue
		}
		c.r.Witnesses = append(c.r.Witnesses, *newest)
	}
	return nil
}
