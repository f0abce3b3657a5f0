package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	ledgerTimeout = 75 * time.Millisecond // half of a commit's
	ledgerPause   = 100 * time.Millisecond
	ledgerPauses  = 5 * time.Second // at most
	ledgerScan    = 256             // chunks that are looked at for one write
)

// entry is what a backend answered to a write.
type entry struct {
	seq    uint64
	status uint16 // 0 when it was given up
	hash   uint32
}

// logbook is what is still to be written to the ledger about a backend. It is its committer's.
type logbook struct {
	entries []entry
	lost    int           // of them, as there were too many
	pause   time.Duration // after the last attempt, which failed; 0 when it did not
	again   time.Time     // when the next one may be made
}

func (b *logbook) add(entries []entry) {
	b.entries = append(b.entries, entries...)
	if over := len(b.entries) - chunkEntries; over > 0 {
		b.entries = append([]entry(nil), b.entries[over:]...)
		b.lost += over
	}
}

// record writes to the ledger what a backend answered, before the progress p it belongs to is committed. What cannot be written stays in memory and is tried
// again with later commits, which do not wait for it longer than a moment.
func (s *sender) record(ctx context.Context, a *applier, p *progress) {
	b := &a.book
	if len(b.entries) == 0 || time.Now().Before(b.again) {
		return
	}
	c := chunk{generation: p.Generation, read: p.Read, floor: p.floor(), entries: b.entries}
	attempt, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	_, err := s.m.js.PublishMsg(attempt, &nats.Msg{Subject: s.m.space.ledger(a.node.Name), Data: c.encode()}, jetstream.WithRetryAttempts(0))
	if err != nil {
		if ctx.Err() == nil && b.pause == ledgerPause { // it failed before
			s.m.log.WarnContext(ctx, "ledger not written, writes go on without: what backends answered is kept in memory, and tried again", "backend", a.node.Name, "error", err)
		}
		b.pause = min(max(2*b.pause, ledgerPause), ledgerPauses)
		b.again = time.Now().Add(b.pause)
		return
	}
	if b.lost > 0 {
		s.m.log.WarnContext(ctx, "ledger written again, but what a backend answered to some writes is not in it", "backend", a.node.Name, "writes", b.lost)
	}
	*b = logbook{entries: b.entries[:0]}
}

// answered is what the backends answered to a write, by name; those that have not, or of which it is not known, are not there.
func (m *Mirror) answered(ctx context.Context, seq uint64) (map[string]entry, error) {
	answers := map[string]entry{}
	for _, n := range *m.nodes.Load() {
		if p := n.progress.Load(); seq <= n.From || p == nil || p.Read < seq {
			continue
		}
		e, ok, err := m.answerOf(ctx, n.Backend, seq)
		if err == nil && ok && classOf(int(e.status)) != taken {
			var again bool
			var later noted
			if later, again, err = m.retried(ctx, n.Name, seq); again && later.generation == n.Generation {
				e = later.entry
			}
		}
		if err != nil {
			return nil, err
		}
		if ok {
			answers[n.Name] = e
		}
	}
	return answers, nil
}

// ledgerStatus is the HTTP status with which each backend answered a write for good, by name; 0 stands for one that never answered. Those that
// have not yet, or of which the ledger does not tell any more, are not there.
func (m *Mirror) ledgerStatus(ctx context.Context, seq uint64) (map[string]int, error) {
	answers, err := m.answered(ctx, seq)
	if err != nil {
		return nil, err
	}
	status := make(map[string]int, len(answers))
	for name, e := range answers {
		status[name] = int(e.status)
	}
	return status, nil
}

// answerOf looks for the answer of a backend to one of its writes.
func (m *Mirror) answerOf(ctx context.Context, b Backend, seq uint64) (entry, bool, error) {
	at, err := m.findChunk(ctx, b, seq)
	for range ledgerScan {
		if err != nil || at == 0 {
			return entry{}, false, err
		}
		var c *chunk
		if c, at, err = m.chunkAt(ctx, b.Name, at, true); err != nil || c == nil {
			return entry{}, false, err
		}
		if c.generation == b.Generation {
			if e, ok := c.find(seq); ok {
				return e, true, nil
			}
			if c.floor >= seq {
				return entry{}, false, nil
			}
		}
		at++
	}
	return entry{}, false, nil
}

// findChunk is where in the ledger a backend's answers begin to a write and those after it: no chunk before, of the backend's generation, holds any. It is 0 where there is none.
func (m *Mirror) findChunk(ctx context.Context, b Backend, seq uint64) (uint64, error) {
	info, err := m.ledger.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("mirror: ledger: %w", err)
	}
	low, high, found := info.State.FirstSeq, info.State.LastSeq+1, uint64(0)
	for low < high {
		mid := low + (high-low)/2
		c, at, err := m.chunkAt(ctx, b.Name, mid, false)
		switch {
		case err != nil:
			return 0, err
		case c == nil || at >= high:
			high = mid
		case c.generation == b.Generation && c.read >= seq || c.generation > b.Generation:
			found, high = at, mid
		default:
			low = at + 1
		}
	}
	return found, nil
}

// chunkAt is the first chunk of a backend at or after a sequence of the ledger, and its sequence; nil where there is none. One that is not readable is empty.
func (m *Mirror) chunkAt(ctx context.Context, backend string, at uint64, withEntries bool) (*chunk, uint64, error) {
	raw, err := m.askLeader(ctx, streamLedger, map[string]any{"seq": at, "next_by_subj": m.space.ledger(backend)})
	if errors.Is(err, errNone) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("mirror: ledger of %q: %w", backend, err)
	}
	c, err := decodeChunk(raw.Data, withEntries)
	if err != nil {
		c = &chunk{} // not ours
	}
	return c, raw.Seq, nil
}
