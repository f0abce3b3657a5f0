package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Streams may be removed while mirrors run, by hand or with the store of a server. They are made anew, and their numbers begin again: nothing that goes by the
// old numbers may be taken for something that goes by the new ones.

var errAnew = errors.New("mirror: the stream of writes is another one, or has lost its end")

// lookAfterStreams makes streams anew that are gone.
func (m *Mirror) lookAfterStreams(ctx context.Context) {
	if m.cfg.Observe {
		return
	}
	for i, s := range [...]jetstream.Stream{m.stream, m.progress, m.bodyStream, m.ledger} {
		if !m.isGone(ctx, s) {
			continue
		}
		cfg := streamConfigs()[i]
		m.log.ErrorContext(ctx, "a stream is gone with all that was in it, making it anew", "stream", cfg.Name)
		if _, err := m.conn.OpenStream(ctx, cfg); err != nil && ctx.Err() == nil {
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

// renumber gives new generations to the backends that have applied writes of a former stream, so that nothing of these is taken for one of the present
// stream. One that lacked some keeps its own: it has a gap, and is sent nothing until it is set again.
func (m *Mirror) renumber(ctx context.Context, made time.Time) error {
	for _, n := range *m.nodes.Load() {
		r, err := m.latest(ctx, n)
		if err != nil {
			return err
		}
		if !r.known || !made.After(r.at) {
			continue
		}
		gap := r.State == StateGap || r.lacks()
		m.log.ErrorContext(ctx, "the stream of writes was made anew; what waited in the old one is gone", "backend", n.Name, "waited", r.Waiting, "lacks_some", gap)
		if gap {
			continue
		}
		b := n.Backend
		b.From, b.Generation = 0, max(time.Now().UnixNano(), b.Generation+1)
		if _, err := m.backends.Update(ctx, m.space.key(b.Name), b, n.revision); err != nil {
			if errors.Is(err, kv.ErrConflict) {
				err = bus.Wrap(bus.Aborted, "somebody else has changed it", err)
			}
			return fmt.Errorf("mirror: backend %q: %w", b.Name, err)
		}
		if err := m.seen(ctx, b); err != nil {
			return err
		}
	}
	return nil
}
