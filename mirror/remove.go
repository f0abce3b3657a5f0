package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

// Contents is what there is of a mirror, all of which goes with it, and what speaks against removing it.
type Contents struct {
	Mirror   string `json:"mirror"`
	Backends int    `json:"backends"`
	Writes   uint64 `json:"writes"` // that are kept
	Parked   uint64 `json:"parked"` // writes

	// Sender is the process that sends, by its [Config].Owner; empty when there is none.
	Sender string `json:"sender,omitempty"`
	// Waiting are the active backends for which writes wait, also those in maintenance, in priority order.
	Waiting []string `json:"waiting,omitempty"`
}

// InUse is failed_precondition, with all its reasons, where [Mirror.Remove] needs [Force]: while a process sends, and where writes wait for
// backends or are parked. Else it is nil.
func (c *Contents) InUse() error {
	var why []string
	if c.Sender != "" {
		why = append(why, fmt.Sprintf("%s runs it and would go on with nothing", c.Sender))
	}
	if len(c.Waiting) > 0 {
		why = append(why, "writes wait for "+strings.Join(c.Waiting, ", "))
	}
	if c.Parked > 0 {
		why = append(why, fmt.Sprintf("parked writes (%d) wait for somebody to deal with them", c.Parked))
	}
	if len(why) == 0 {
		return nil
	}
	return bus.Errorf(bus.FailedPrecondition, "mirror: %q is not removed: %s", c.Mirror, strings.Join(why, "; "))
}

// Contents counts what there is. The error is unavailable, or why ctx ended.
func (m *Mirror) Contents(ctx context.Context) (Contents, error) {
	s, err := m.Status(ctx)
	if err != nil {
		return Contents{}, err
	}
	c := Contents{Mirror: s.Name, Backends: len(s.Backends), Sender: s.Sender}
	for _, b := range s.Backends {
		if b.Active && b.State != StateGap && b.Applied < s.Last {
			c.Waiting = append(c.Waiting, b.Name)
		}
	}
	info, err := m.stream.Info(ctx, jetstream.WithSubjectFilter(m.space.writes()))
	if err != nil {
		return Contents{}, fmt.Errorf("mirror: %w", err)
	}
	for _, n := range info.State.Subjects {
		c.Writes += n
	}
	c.Parked, err = m.Parked().count(ctx)
	return c, err
}

// count is how many there are.
func (p *Parked) count(ctx context.Context) (uint64, error) {
	consumer, err := p.consumer(ctx, ParkedFilter{})
	if err != nil || consumer == nil {
		return 0, err
	}
	_ = p.m.js.DeleteConsumer(ctx, deadStream, consumer.CachedInfo().Name) // else the server forgets it after a while
	return consumer.CachedInfo().NumPending, nil
}

// RemoveOption adjusts [Mirror.Remove].
type RemoveOption func(*removeOptions)

type removeOptions struct{ force bool }

// Force removes a mirror whatever [Contents.InUse] says. What its processes store meanwhile may be lost.
func Force() RemoveOption { return func(o *removeOptions) { o.force = true } }

// Remove removes the mirror: its backends and settings, the writes that are kept, what the backends answered and have applied, and parked writes.
// It returns what there was. Other mirrors, with which it shares its streams, are left alone. A process that still has it open says so on its log, answers reads and writes
// with unavailable and sends nothing more, also one that heard nothing until another one had made the mirror anew; one that opens it later makes it anew, empty. Interrupted, it may be called again.
//
// The error is that of [Contents.InUse] unless Force is given, permission_denied for who may not remove from the streams, or why ctx ended.
func (m *Mirror) Remove(ctx context.Context, opts ...RemoveOption) (Contents, error) {
	var o removeOptions
	for _, opt := range opts {
		opt(&o)
	}
	c, err := m.Contents(ctx)
	if err == nil && !o.force {
		err = c.InUse()
	}
	if err != nil {
		return c, err
	}
	// First what only an admin may remove: nobody else is to remove half.
	for _, subject := range []string{m.space.retries(), m.space.ledger("*")} {
		if err := m.empty(ctx, m.ledger, subject); err != nil {
			return c, err
		}
	}
	// The settings are the last, since by them a mirror is found that was removed by half. Nobody stores a write any more who has heard that they are gone.
	var keys []string
	for entry, err := range m.backends.List(ctx, m.space.key("*")) {
		if err != nil {
			return c, fmt.Errorf("mirror: remove: %w", err)
		}
		if lastToken(entry.Key) != settingsName {
			keys = append(keys, entry.Key)
		}
	}
	for _, key := range keys {
		if err := m.backends.Delete(ctx, key); err != nil {
			return c, fmt.Errorf("mirror: remove: %w", err)
		}
	}
	if err := m.wipe(ctx); err != nil {
		return c, err
	}
	if err := m.backends.Delete(ctx, m.space.key(settingsName)); err != nil {
		return c, fmt.Errorf("mirror: remove: %w", err)
	}
	return c, m.wipe(ctx) // what came meanwhile
}

// wipe removes what the streams have of the mirror.
func (m *Mirror) wipe(ctx context.Context) error {
	dead, err := m.js.Stream(ctx, deadStream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("mirror: remove: %w", err)
	}
	for _, part := range []struct {
		stream  jetstream.Stream
		subject string
	}{
		{m.ledger, m.space.ledger("*")},
		{m.ledger, m.space.retries()},
		{m.progress, m.space.progress("*")},
		{dead, m.space.letters("*") + "*"},
		{m.stream, m.space.writes()},
	} {
		if part.stream == nil {
			continue
		}
		if err := m.empty(ctx, part.stream, part.subject); err != nil {
			return err
		}
	}
	objects, err := m.bodyStore.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return fmt.Errorf("mirror: remove bodies: %w", err)
	}
	for _, o := range objects {
		if !strings.HasPrefix(o.Name, m.space.objects()) {
			continue
		}
		if err := m.removeBody(ctx, o.Name); err != nil {
			return err
		}
	}
	return nil
}

// empty removes what a stream has at a subject.
func (m *Mirror) empty(ctx context.Context, stream jetstream.Stream, subject string) error {
	access := bus.Access{Publish: []string{"$JS.API.STREAM.PURGE." + stream.CachedInfo().Config.Name}}
	err := m.conn.Permitted(ctx, access, func(ctx context.Context) error { return stream.Purge(ctx, jetstream.WithPurgeSubject(subject)) })
	if err != nil {
		return fmt.Errorf("mirror: remove %s: %w", subject, err)
	}
	return nil
}

// removal is that of a mirror which this process has open.
type removal struct {
	once sync.Once
	done chan struct{}
}

// noteRemoval hears that the settings are gone, or are another mirror's.
func (m *Mirror) noteRemoval(ctx context.Context) {
	m.removal.once.Do(func() {
		if !m.cfg.Observe {
			m.log.ErrorContext(ctx, "the mirror was removed: this process answers reads and writes with 503 and sends nothing more; stop it, or start it again to make the mirror anew")
		}
		close(m.removal.done)
	})
}

// isRemoved tells whether this process has heard that the mirror is removed. It stays so: one that is made anew may have other lanes.
func (m *Mirror) isRemoved() bool {
	select {
	case <-m.removal.done:
		return true
	default:
		return false
	}
}

// whileThere is a context that ends with ctx, or when the mirror is removed. stop releases it.
func (m *Mirror) whileThere(ctx context.Context) (there context.Context, stop func()) {
	there, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-m.removal.done:
			cancel()
		case <-there.Done():
		}
	})
	return there, func() { cancel(); wg.Wait() }
}
