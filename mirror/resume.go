package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// resumed is where the writes of a backend go on.
type resumed struct {
	progress

	made     time.Time // when the stream of writes was
	known    bool      // it was stored how far it is
	revision uint64    // of the record, 0 for none
	gap      bool      // writes that it lacks are gone
}

// resume reads how far a backend is, and holds it against what the stream of writes has.
func (m *Mirror) resume(ctx context.Context, n *node) (*resumed, error) {
	r, err := m.latest(ctx, n)
	if err != nil {
		return nil, err
	}
	info, err := m.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	r.made = info.Created
	replaced, err := m.replaced(ctx, r.Read, r.ReadAt)
	if err != nil {
		return nil, err
	}
	last := info.State.LastSeq
	switch {
	case r.Stream != 0 && r.Stream != info.Created.UnixNano():
		r.gap = r.Lost || r.State == StateGap || r.lacks()
		m.log.ErrorContext(ctx, "the stream of writes was made anew; what waited in the old one is gone", "backend", n.Name, "waited", r.Waiting, "lacks_some", r.gap)
		r.progress = *unreadProgress(n.Generation, beforeFirst(info))
		r.Lost = r.gap
		return r, nil
	case r.Read > last || replaced:
		if last, err = m.lastUntil(ctx, info, min(r.Read, last), r.ReadAt); err != nil {
			return nil, err
		}
		m.log.ErrorContext(ctx, "the stream of writes has lost its end, to a power failure or somebody who restored it; this backend has applied writes that are gone, others may not have",
			"backend", n.Name, "last", last, "applied", r.Read)
		r.clamp(last)
	}
	upTo, _, err := m.lastRemoved(ctx, info.Created)
	if !r.known && r.floor()+1 < info.State.FirstSeq && upTo == 0 && err == nil {
		m.log.ErrorContext(ctx, "nothing is known of what this backend has applied, and of the writes since it was set the first are gone: "+
			"where it was behind it lacks some; to be sure give it another's data, then set it again with from", "backend", n.Name, "after", r.floor(), "first", info.State.FirstSeq)
	}
	r.gap = r.Lost || r.floor() < upTo
	return r, err
}

// latest reads the last record of what a backend has applied. Where that is gone, this process may have seen it: what was applied once stays so.
func (m *Mirror) latest(ctx context.Context, n *node) (*resumed, error) {
	seen := n.seen() // before asking: then what is stored is no older
	raw, err := m.rawProgress(ctx, n.Name)
	switch {
	case errors.Is(err, errNone):
		raw = &storedMessage{}
	case err != nil:
		return nil, err
	}
	r := &resumed{progress: *unreadProgress(n.Generation, n.From), revision: raw.Seq}
	var p progress
	if r.known = raw.Seq > 0 && json.Unmarshal(raw.Data, &p) == nil && p.Generation == n.Generation; r.known { // else all is sent again that is still there
		r.progress = p
	}
	if seen.goneFrom(raw.Seq) && seen.Generation == n.Generation {
		m.log.WarnContext(ctx, "what a backend has applied is not stored any more, so it goes on after what this process has seen", "backend", n.Name, "applied", seen.floor())
		r.progress, r.known = *seen.progress, true
	}
	return r, nil
}

// lacks tells whether there were writes that had not been applied.
func (p *progress) lacks() bool { return p.Waiting > 0 || p.floor() < p.Read }

// clamp makes last what was read: writes after it are others than those that were applied.
func (p *progress) clamp(last uint64) {
	p.Read = min(p.Read, last)
	for i := range p.Marks {
		p.Marks[i][1] = min(p.Marks[i][1], last)
	}
	p.ReadAt = 0
}

// replaced tells whether a number that was read, of a write stored at a time, is now that of another one: the stream has lost its end, and has grown past it since.
func (m *Mirror) replaced(ctx context.Context, seq uint64, at int64) (bool, error) {
	if at == 0 {
		return false, nil
	}
	raw, err := m.rawWrite(ctx, seq)
	if errors.Is(err, errNone) {
		return false, nil // it was removed
	}
	return err == nil && raw.Time.UnixNano() != at, err
}

// lastUntil finds the last number, up to one, before the first write that was stored after a time. Those after it were stored when the stream had lost its end.
func (m *Mirror) lastUntil(ctx context.Context, info *jetstream.StreamInfo, upTo uint64, at int64) (uint64, error) {
	if at == 0 {
		return upTo, nil
	}
	removed, _, err := m.lastRemoved(ctx, info.Created)
	if err != nil {
		return 0, err
	}
	low, high := max(info.State.FirstSeq, removed+1), upTo+1 // the first is among these
	for low < high {
		mid := low + (high-low)/2
		next, err := m.nextWrite(ctx, mid)
		switch {
		case errors.Is(err, errNone) || err == nil && next.Time.UnixNano() > at:
			high = mid
		case err != nil:
			return 0, err
		default:
			low = next.Seq + 1
		}
	}
	return max(high, 1) - 1, nil
}
