package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Who retries a parked write is not who sends, and its answer comes when those of later writes are in the ledger already. So it has a subject of its own
// there, and is looked for when it matters: when a write was not taken, or not answered by all in the same way.

const noteTimeout = 2 * time.Second

// noteRetry writes to the ledger what a backend answered when a parked write was tried again. Where that fails the ledger goes on to say what it answered before.
func (m *Mirror) noteRetry(ctx context.Context, n *node, e entry) {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	c := chunk{generation: n.Generation, read: e.seq, floor: e.seq, entries: []entry{e}}
	_, err := m.js.PublishMsg(ctx, &nats.Msg{Subject: m.space.retry(n.Name, e.seq), Data: c.encode()}, jetstream.WithRetryAttempts(0))
	if err != nil {
		m.log.WarnContext(ctx, "what a backend answered to a retry is not in the ledger, so the write is shown as one that it answered otherwise", "backend", n.Name, "seq", e.seq, "error", err)
	}
}

// retried is what a backend answered to a write when that was tried again. To one that it was sent in a later generation it says nothing.
func (m *Mirror) retried(ctx context.Context, backend string, seq uint64) (noted, bool, error) {
	raw, err := m.askLeader(ctx, streamLedger, map[string]any{"last_by_subj": m.space.retry(backend, seq)})
	if errors.Is(err, errNone) {
		return noted{}, false, nil
	}
	if err != nil {
		return noted{}, false, err
	}
	c, err := decodeChunk(raw.Data, true)
	if err != nil {
		return noted{}, false, nil //nolint:nilerr // it is not ours
	}
	e, ok := c.find(seq)
	return noted{e, c.generation}, ok, nil
}

// anyRetried tells whether the ledger has any such answer.
func (m *Mirror) anyRetried(ctx context.Context) (bool, error) {
	_, err := m.askLeader(ctx, streamLedger, map[string]any{"seq": 1, "next_by_subj": m.space.retries()})
	if errors.Is(err, errNone) {
		return false, nil
	}
	return err == nil, err
}
