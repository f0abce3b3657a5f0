package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

// Streams may be removed while mirrors run, by hand or with the store of a server. They are made anew. The numbers of writes go on above all that there were, so that nothing that
// goes by the old ones, here, at a client or in a backend, may be taken for something that goes by the new ones.

// numbersApart is how far above the last numbers that are known those of a stream that is made anew begin, at least: more than can have been given while nobody learned of it.
const numbersApart = 10_000_000

var errAnew = errors.New("mirror: the stream of writes is another one, or has lost its end")

// lookAfterStreams makes streams anew that are gone.
func (m *Mirror) lookAfterStreams(ctx context.Context) {
	if m.cfg.Observe {
		return
	}
	for i, s := range [...]jetstream.Stream{m.progress, m.stream, m.bodyStream, m.ledger} {
		if !m.isGone(ctx, s) {
			continue
		}
		cfg := streamConfigs()[i]
		m.log.ErrorContext(ctx, "a stream is gone with all that was in it, making it anew", "stream", cfg.Name)
		err := m.numbered(ctx, &cfg)
		if err == nil {
			_, err = m.conn.OpenStream(ctx, cfg)
		}
		if err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, "the stream was not made anew, trying again; `skybus mirror run`, started once as a user who may create streams, does it", "stream", cfg.Name, "error", err)
		}
	}
}

// isGone tells whether the servers say that there is no such stream.
func (m *Mirror) isGone(ctx context.Context, s jetstream.Stream) bool {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := s.Info(ctx)
	return errors.Is(err, jetstream.ErrStreamNotFound)
}

// sameStream tells by an error whether the stream of writes is no longer the one that was made at that time, or ends before what was read of it.
func (s *sender) sameStream(info *jetstream.StreamInfo, read uint64) error {
	if !info.Created.Equal(s.made) || info.State.LastSeq < read {
		return errAnew
	}
	return nil
}

// numbered decides where the numbers of the stream of writes begin, where there is none. It asks until it knows: what has no leader yet answers nothing.
func (m *Mirror) numbered(ctx context.Context, cfg *jetstream.StreamConfig) error {
	if cfg.Name != streamWrites {
		return nil
	}
	for {
		var err error
		cfg.FirstSeq, err = m.firstIfNone(ctx)
		if err == nil || !isUnanswered(err) || !backoff.Sleep(ctx, firstPause) {
			return err
		}
	}
}

// firstIfNone is firstNumber where there is no stream of writes, else 0.
func (m *Mirror) firstIfNone(ctx context.Context) (uint64, error) {
	info := bus.Access{Publish: []string{"$JS.API.STREAM.INFO." + streamWrites}}
	attempt, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err := m.conn.Permitted(attempt, info, func(ctx context.Context) error {
		_, err := m.js.Stream(ctx, streamWrites)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return m.firstNumber(ctx)
	case err != nil && isUnanswered(err):
		return 0, fmt.Errorf("mirror: stream %s: %w", streamWrites, err)
	default:
		return 0, nil // it is there, or who opens it meets the same
	}
}

// firstNumber is that of the first write of a stream that is made now: above all that any backend of any mirror is known to have been sent, and all that this process has seen.
func (m *Mirror) firstNumber(ctx context.Context) (uint64, error) {
	highest := m.last.Load()
	if nodes := m.nodes.Load(); nodes != nil {
		for _, n := range *nodes {
			if p := n.progress.Load(); p != nil {
				highest = max(highest, p.Read)
			}
		}
	}
	for seq := uint64(1); ; {
		raw, err := m.askLeader(ctx, streamProgress, map[string]any{"seq": seq, "next_by_subj": subjectProgress + ">"})
		if errors.Is(err, errNone) || errors.Is(err, jetstream.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("mirror: numbers that were given: %w", err)
		}
		var r struct {
			progress
			removed
		}
		if json.Unmarshal(raw.Data, &r) == nil { // else it is not ours
			highest = max(highest, r.Read, r.UpTo)
		}
		seq = raw.Seq + 1
	}
	if highest == 0 {
		return 0, nil // the servers' own
	}
	return (highest/numbersApart + 2) * numbersApart, nil
}

// beforeFirst is the number before the first that the stream of writes ever had.
func beforeFirst(info *jetstream.StreamInfo) uint64 { return max(info.Config.FirstSeq, 1) - 1 }

// sameNumbers looks whether the stream is still the same, where the number of a write is so far above the one before that it may be another one's.
func (s *sender) sameNumbers(ctx context.Context, before, seq uint64) error {
	if seq-before < numbersApart/2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	info, err := s.m.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if err := s.sameStream(info, 0); err != nil {
		s.fail(err)
		return err
	}
	return nil
}
