package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// State is what a backend is to the sender.
type State string

// States of a backend.
const (
	StateLive        State = "live"        // writes reach it as they come
	StateBehind      State = "behind"      // it is being brought level
	StateDown        State = "down"        // it does not answer
	StateMaintenance State = "maintenance" // nothing is sent to it, everything is kept
	StateGap         State = "gap"         // writes that it lacks are no longer there: it needs a copy of another's data
)

// progress is how far a backend has applied its writes, as the sender commits it: all up to Read, but in the lanes of Marks, where it
// is all up to the mark.
type progress struct {
	Generation int64       `json:"generation"`
	Term       string      `json:"term"` // of the sender's lease
	Read       uint64      `json:"read"`
	Marks      [][2]uint64 `json:"marks,omitempty"` // lane, sequence
	State      State       `json:"state"`
	Waiting    uint64      `json:"waiting,omitempty"` // writes, about
	Bytes      uint64      `json:"bytes,omitempty"`   // of those in the sender's memory
	Lag        int64       `json:"lag,omitempty"`     // milliseconds that the oldest of them has waited
	Lost       bool        `json:"lost,omitempty"`    // what it lacks went with a former stream
	ReadAt     int64       `json:"read_at,omitempty"` // Unix nanoseconds at which the write Read was stored, 0 where that is not known
	Stream     int64       `json:"stream,omitempty"`  // Unix nanoseconds at which the stream of writes was made that the numbers are of
}

// unreadProgress is that of a backend whose writes begin after from.
func unreadProgress(generation int64, from uint64) *progress {
	return &progress{Generation: generation, Read: from, State: StateBehind}
}

// floor is up to where all is applied.
func (p *progress) floor() uint64 {
	floor := p.Read
	for _, m := range p.Marks {
		floor = min(floor, m[1])
	}
	return floor
}

// lanes is the mark of every lane.
func (p *progress) lanes(n int) []uint64 {
	marks := make([]uint64, n)
	for i := range marks {
		marks[i] = p.Read
	}
	for _, m := range p.Marks {
		if m[0] < uint64(n) { //nolint:gosec // n is small
			marks[m[0]] = m[1]
		}
	}
	return marks
}

// removed says up to where writes were removed, since all backends had applied them.
type removed struct {
	UpTo uint64 `json:"up_to"`
}

var errNone = errors.New("there is none")

// rawProgress is the newest record of a backend as the leader has it.
func (m *Mirror) rawProgress(ctx context.Context, backend string) (*storedMessage, error) {
	msg, err := m.askLeader(ctx, streamProgress, map[string]any{"last_by_subj": m.space.progress(backend)})
	if err != nil && !errors.Is(err, errNone) {
		return nil, fmt.Errorf("mirror: progress of %q: %w", backend, err)
	}
	return msg, err
}

// removedUpTo is the last write that was removed, if only with a former stream.
func (m *Mirror) removedUpTo(ctx context.Context) (uint64, error) {
	info, err := m.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("mirror: %w", err)
	}
	upTo, _, err := m.lastRemoved(ctx, info.Created)
	return max(upTo, beforeFirst(info)), err
}

// lastRemoved reads the record of what was removed from the stream that was made at the time, and its revision. One of an older stream says nothing.
func (m *Mirror) lastRemoved(ctx context.Context, made time.Time) (upTo, revision uint64, err error) {
	raw, err := m.rawProgress(ctx, settingsName)
	if errors.Is(err, errNone) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	var r removed
	if err := json.Unmarshal(raw.Data, &r); err != nil {
		return 0, 0, fmt.Errorf("mirror: what was removed: %w", err)
	}
	if raw.Time.Before(made) {
		return 0, raw.Seq, nil
	}
	return r.UpTo, raw.Seq, nil
}

// LastSeq is the last write that was stored, of whatever mirror.
func (m *Mirror) LastSeq(ctx context.Context) (uint64, error) {
	info, err := m.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("mirror: %w", err)
	}
	return info.State.LastSeq, nil
}

// errConflict says that somebody else has written the record.
var errConflict = errors.New("mirror: somebody else commits for the backend")

// putProgress writes a record over the one with the revision, in one attempt, and returns the new revision.
func (m *Mirror) putProgress(ctx context.Context, backend string, data []byte, revision uint64) (uint64, error) {
	msg := &nats.Msg{Subject: m.space.progress(backend), Data: data, Header: nats.Header{headerExpectSeq: {strconv.FormatUint(revision, 10)}}}
	ack, err := m.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err == nil {
		return ack.Sequence, nil
	}
	if jscode.Of(err) == jscode.WrongLast { // and not while one is in flight, which may be ours
		return 0, errConflict
	}
	return 0, bus.Wrap(bus.Unavailable, "mirror: progress of "+backend+" was not stored", err)
}
