package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// maxProof is the most lines of a proof (C2SP tlog-witness, "add-checkpoint").
const maxProof = 63

// MaxRequest bounds a request: a checkpoint and the longest proof.
const MaxRequest = checkpoint.MaxSize + 64*(maxProof+1)

// Request asks a witness to sign a checkpoint.
type Request struct {
	// Old is the size of the newest checkpoint that the witness signed, 0 for
	// none; Proof shows that the new one continues it.
	Old   uint64
	Proof tlog.TreeProof
	// Checkpoint is signed by the log.
	Checkpoint []byte
}

// Encode returns the body of an add-checkpoint request.
func (r *Request) Encode() []byte {
	b := append(strconv.AppendUint([]byte("old "), r.Old, 10), '\n')
	for _, h := range r.Proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), r.Checkpoint...)
}

// ParseRequest reads the body of an add-checkpoint request. Errors are
// fault.Invalid.
func ParseRequest(body []byte) (Request, error) {
	r, err := parseRequest(body)
	if err != nil {
		return Request{}, fault.Wrap(fault.Invalid, err.Error(), err)
	}
	return r, nil
}

func parseRequest(body []byte) (Request, error) {
	var r Request
	if len(body) > MaxRequest {
		return r, errors.New("the request is over the limit")
	}
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return r, errors.New("no empty line before the checkpoint")
	}
	if len(signed) > checkpoint.MaxSize {
		return r, errors.New("the checkpoint is over the limit")
	}
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	old, err := strconv.ParseUint(size, 10, 63)
	if !ok || err != nil || strconv.FormatUint(old, 10) != size {
		return r, errors.New(`the first line is not "old SIZE"`)
	}
	if len(lines)-1 > maxProof {
		return r, errors.New("the proof has more than 63 lines")
	}
	r.Old, r.Checkpoint = old, signed
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.Strict().DecodeString(line)
		var h tlog.Hash
		if err != nil || len(raw) != len(h) {
			return r, errors.New("a line of the proof is not a SHA-256 hash in base64")
		}
		copy(h[:], raw)
		r.Proof = append(r.Proof, h)
	}
	return r, nil
}
