package journal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	positionName = "delivered"
	// A batch is as large as a stock kube-apiserver's.
	maxBatch      = 400
	maxBatchBytes = 4 << 20
	// linger is how long events are collected before they are sent.
	linger = 200 * time.Millisecond
	// backoffs after a failure.
	firstBackoff, lastBackoff = 250 * time.Millisecond, 10 * time.Second
)

// position is up to where events were delivered.
type position struct {
	File   uint64 `json:"file"`
	Offset int64  `json:"offset"`
}

func readPosition(path string) (position, error) {
	var p position
	data, err := os.ReadFile(path)
	if errors.Is(err, errNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		// Delivered again, events are found as duplicates; lost they are not.
		return position{}, nil
	}
	return p, nil
}

// Send takes events, each in JSON, into the record. An error of kind Invalid
// says that one of them never will be taken; after any other they are sent
// again.
type Send func(ctx context.Context, events []json.RawMessage) error

// Deliver sends events in their order until ctx ends.
func (j *Journal) Deliver(ctx context.Context, send Send) error {
	backoff := firstBackoff
	for {
		sent, err := j.deliverSome(ctx, send)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if backoff == firstBackoff {
				j.cfg.Log.Warn("decisions not delivered; they wait", "error", err)
			}
			if !sleep(ctx, backoff) {
				return nil
			}
			backoff = min(2*backoff, lastBackoff)
			continue
		}
		backoff = firstBackoff
		if sent {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-j.more:
		}
		if !sleep(ctx, linger) {
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// deliverSome sends the next events; it returns false when there are none.
func (j *Journal) deliverSome(ctx context.Context, send Send) (bool, error) {
	for _, n := range j.numbers() {
		j.mu.Lock()
		at, end, current := j.at, j.sizes[n], n == j.number
		j.mu.Unlock()
		if n < at.File {
			if err := j.remove(n); err != nil {
				return false, err
			}
			continue
		}
		if n > at.File {
			at = position{n, int64(len(magic))}
		}
		events, next, damaged, err := read(j.path(nameOf(n)), at.Offset, end)
		if err != nil {
			return false, err
		}
		if len(events) > 0 {
			if err := j.sendAll(ctx, send, events); err != nil {
				return false, err
			}
			return true, j.delivered(position{n, next})
		}
		if current {
			return false, nil
		}
		if damaged && next < end {
			// A crash cuts the last frame; its event was not acknowledged to
			// anybody as durable. More than that is worth a mark.
			j.cfg.Log.Warn("journal file is cut or damaged", "file", nameOf(n), "offset", next, "bytes", end-next)
			gap, err := j.gap(fmt.Sprintf("%d bytes of %s cannot be read", end-next, nameOf(n)), 0)
			if err != nil {
				return false, err
			}
			if err := send(ctx, gap); err != nil {
				return false, err
			}
		}
		if err := j.delivered(position{n + 1, int64(len(magic))}); err != nil {
			return false, err
		}
		if err := j.remove(n); err != nil {
			return false, err
		}
	}
	return false, nil
}

// gap is what is sent in place of what is missing.
func (j *Journal) gap(why string, count int64) ([]json.RawMessage, error) {
	frame, err := j.appendFrame(nil, gapEvent(j.cfg.Now(), why, count))
	if err != nil {
		return nil, err
	}
	return []json.RawMessage{frame[frameHeader:]}, nil
}

// sendAll sends events, and halves a list that is refused until what is refused
// is one event: that one is left out, and a gap takes its place.
func (j *Journal) sendAll(ctx context.Context, send Send, events []json.RawMessage) error {
	err := send(ctx, events)
	if fault.KindOf(err) != fault.Invalid {
		return err
	}
	if len(events) > 1 {
		half := len(events) / 2
		if err := j.sendAll(ctx, send, events[:half]); err != nil {
			return err
		}
		return j.sendAll(ctx, send, events[half:])
	}
	j.cfg.Log.Error("event refused by the record", "error", err)
	gap, err := j.gap("an event was refused by the record", 1)
	if err != nil {
		return err
	}
	// Before the event counts as delivered: the gap must not be lost with the
	// process.
	if err := send(ctx, gap); err != nil {
		return fmt.Errorf("record a gap: %w", err)
	}
	j.mu.Lock()
	j.lost++
	j.mu.Unlock()
	return nil
}

// delivered notes, on disk, up to where events were taken.
func (j *Journal) delivered(p position) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(j.path(positionName), data); err != nil {
		return fmt.Errorf("note what was delivered: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at = p
	return nil
}

func (j *Journal) remove(n uint64) error {
	if err := durable.Remove(j.path(nameOf(n))); err != nil && !errors.Is(err, errNotExist) {
		return fmt.Errorf("remove journal file: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.total -= j.sizes[n]
	delete(j.sizes, n)
	return nil
}

// read returns the next events of a file and where those after them begin.
// damaged says that what follows is no whole frame.
func read(path string, offset, end int64) (events []json.RawMessage, next int64, damaged bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, offset, false, fmt.Errorf("read journal: %w", err)
	}
	defer f.Close()
	r := io.NewSectionReader(f, 0, end)
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return nil, offset, false, fmt.Errorf("read journal: %w", err)
	}
	next = offset
	total := 0
	var head [frameHeader]byte
	for len(events) < maxBatch && total < maxBatchBytes {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return events, next, err != io.EOF, nil
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n == 0 || n > maxFrame {
			return events, next, true, nil
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(r, payload); err != nil || crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) || !json.Valid(payload) {
			return events, next, true, nil
		}
		events = append(events, payload)
		next += frameHeader + int64(n)
		total += int(n)
	}
	return events, next, false, nil
}

// lockDir keeps a second process off the directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir+"/lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use: %w", dir, err)
	}
	return f, nil
}
