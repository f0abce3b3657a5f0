package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// resumed is where the writes of a backend go on.
type resumed struct {
	progress

	revision uint64 // of the record, 0 for none
	gap      bool   // writes that it lacks are gone
}

// resume reads how far a backend is, and holds it against what the stream of writes has.
func (m *Mirror) resume(ctx context.Context, n *node) (*resumed, error) {
	r := &resumed{progress: *unreadProgress(n.Generation, n.From)}
	raw, err := m.rawProgress(ctx, n.Name)
	switch {
	case errors.Is(err, errNone):
		raw = &storedMessage{}
	case err != nil:
		return nil, err
	}
	r.revision = raw.Seq
	var p progress
	known := raw.Seq > 0 && json.Unmarshal(raw.Data, &p) == nil && p.Generation == n.Generation // else all is sent again that is still there
	if known {
		r.progress = p
	}
	info, err := m.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	last := info.State.LastSeq
	switch {
	case known && info.Created.After(raw.Time): // its numbers begin anew
		m.log.ErrorContext(ctx, "the stream of writes was made anew; what waited in the old one is gone", "backend", n.Name, "waited", p.Waiting)
		r.gap = p.State == StateGap || p.Waiting > 0 || p.floor() < p.Read
		r.progress = *unreadProgress(n.Generation, 0)
		return r, nil
	case r.Read > last:
		m.log.ErrorContext(ctx, "the stream of writes has lost its end, to a power failure or somebody who restored it; this backend has applied writes that are gone, others may not have",
			"backend", n.Name, "last", last, "applied", r.Read)
		r.clamp(last)
	}
	upTo, _, err := m.lastRemoved(ctx, info.Created)
	r.gap = r.floor() < upTo
	return r, err
}

// clamp makes last what was read: writes after it are others than those that were applied.
func (p *progress) clamp(last uint64) {
	p.Read = min(p.Read, last)
	for i := range p.Marks {
		p.Marks[i][1] = min(p.Marks[i][1], last)
	}
}
