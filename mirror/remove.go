package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
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
	// Removing: it was removed by half, and nobody can use it.
	Removing bool `json:"removing,omitempty"`
}

// InUse is failed_precondition, with all its reasons, where [Mirror.Remove] needs [Force]: while a process sends, and where writes wait for
// backends or are parked, unless it was removed by half. Else it is nil.
func (c *Contents) InUse() error {
	var why []string
	if c.Sender != "" {
		why = append(why, fmt.Sprintf("%s runs it and would go on with nothing", c.Sender))
	}
	if len(c.Waiting) > 0 && !c.Removing {
		why = append(why, "writes wait for "+strings.Join(c.Waiting, ", "))
	}
	if c.Parked > 0 && !c.Removing {
		why = append(why, fmt.Sprintf("parked writes (%d) wait for somebody to deal with them", c.Parked))
	}
	if len(why) == 0 {
		return nil
	}
	return bus.Errorf(bus.FailedPrecondition, "mirror: %q is not removed: %s", c.Mirror, strings.Join(why, "; "))
}

// Contents counts what there is. The error is unavailable, or why ctx ended.
func (m *Mirror) Contents(ctx context.Context) (c Contents, err error) {
	err = step(ctx, func(ctx context.Context) (err error) {
		c, err = m.contents(ctx)
		return err
	})
	return c, err
}

func (m *Mirror) contents(ctx context.Context) (Contents, error) {
	entry, err := m.settings.Get(ctx, m.space.key(settingsName))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return Contents{}, fmt.Errorf("mirror: %w", err)
	}
	s, err := m.Status(ctx)
	if err != nil {
		return Contents{}, err
	}
	c := Contents{Mirror: s.Name, Backends: len(s.Backends), Sender: s.Sender, Removing: entry.Value.Removing}
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

type removeOptions struct {
	force    bool
	progress func(bodies, of int)
}

// Force removes a mirror whatever [Contents.InUse] says. What its processes store meanwhile may be lost.
func Force() RemoveOption { return func(o *removeOptions) { o.force = true } }

// Progress calls f, in the goroutine that called Remove, after each body of a write that was removed, which takes long where there are many.
func Progress(f func(bodies, of int)) RemoveOption {
	return func(o *removeOptions) { o.progress = f }
}

// removeStep is how long the servers may take for one step of a removal, of which there may be thousands.
const removeStep = 15 * time.Second

// Remove removes the mirror: its backends and settings, the writes that are kept, what the backends answered and have applied, and parked writes.
// It returns what there was. Other mirrors, with which it shares its streams, are left alone. A process that still has it open says so on its log, answers reads and writes
// (but not the status of a write) with unavailable and sends nothing more, also one that heard nothing until another one had made the mirror anew; one that opens it later makes
// it anew, empty. No process sends meanwhile, but for one that Force was to override.
//
// Remove may take long, and bounds each of its steps itself. The settings go last: interrupted, it may be called again, by whatever process; until then [Open] refuses the mirror,
// unless it is to observe, and [List] and [Contents] have it as Removing.
//
// The error is that of [Contents.InUse] unless Force is given, permission_denied for who may not remove from the streams, or why ctx ended.
func (m *Mirror) Remove(ctx context.Context, opts ...RemoveOption) (Contents, error) {
	var o removeOptions
	for _, opt := range opts {
		opt(&o)
	}
	ctx, sender, release, err := m.keepOthersOut(ctx)
	if err != nil {
		return Contents{}, err
	}
	defer release()
	c, err := m.Contents(ctx)
	c.Sender = sender // not this one
	if err == nil && !o.force {
		err = c.InUse()
	}
	if err != nil {
		return c, err
	}
	if err := m.remove(ctx, &o); err != nil {
		if lost := context.Cause(ctx); errors.Is(lost, errLeaseLost) {
			err = errors.Join(lost, err)
		}
		return c, fmt.Errorf("mirror: remove: %w", err)
	}
	return c, nil
}

// keepOthersOut takes the lease, without which nobody sends, or says who sends. The context ends when the lease is lost.
func (m *Mirror) keepOthersOut(ctx context.Context) (held context.Context, sender string, release func(), err error) {
	var lease *kv.Lease
	err = step(ctx, func(ctx context.Context) error {
		leases, err := kv.OpenLeases(ctx, m.conn)
		if err == nil {
			lease, err = leases.Acquire(ctx, m.conn.Namespace().Key(leaseKind, m.cfg.Name), m.cfg.Owner, m.cfg.Lease)
		}
		return err
	})
	if by, ok := errors.AsType[*kv.HeldError](err); ok {
		return ctx, cmp.Or(by.Holder.Owner, "another process"), func() {}, nil
	}
	if err != nil {
		return ctx, "", nil, fmt.Errorf("mirror: remove: %w", err)
	}
	held, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-lease.Lost():
			cancel(errLeaseLost)
		case <-held.Done():
		}
	})
	return held, "", func() {
		cancel(nil)
		wg.Wait()
		release, done := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer done()
		if err := lease.Release(release); err != nil {
			m.log.DebugContext(ctx, "lease of a mirror that was removed not given up, it is free in a moment", "error", err)
		}
	}, nil
}

// step does something that should not take long.
func step(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, removeStep)
	defer cancel()
	return f(ctx)
}

func (m *Mirror) remove(ctx context.Context, o *removeOptions) error {
	if _, err := m.ownSettings(ctx); err != nil {
		return err
	}
	// First what only an admin may remove: nobody else is to remove half.
	for _, subject := range []string{m.space.retries(), m.space.ledger("*")} {
		if err := m.empty(ctx, m.ledger, subject); err != nil {
			return err
		}
	}
	revision, err := m.markRemoving(ctx)
	if err != nil || revision == 0 {
		return err
	}
	if err := m.deleteBackends(ctx); err != nil {
		return err
	}
	for range 2 { // the second time what came meanwhile
		if err := m.wipe(ctx, o); err != nil {
			return err
		}
	}
	err = step(ctx, func(ctx context.Context) error {
		return m.settings.Delete(ctx, m.space.key(settingsName), kv.IfRevision(revision))
	})
	if errors.Is(err, kv.ErrConflict) {
		return nil // somebody else has done it
	}
	return err
}

func (m *Mirror) deleteBackends(ctx context.Context) error {
	var keys []string
	err := step(ctx, func(ctx context.Context) error {
		for entry, err := range m.backends.List(ctx, m.space.key("*")) {
			if err != nil {
				return err
			}
			if lastToken(entry.Key) != settingsName {
				keys = append(keys, entry.Key)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := step(ctx, func(ctx context.Context) error { return m.backends.Delete(ctx, key) }); err != nil {
			return err
		}
	}
	return nil
}

// ownSettings is the settings of the mirror, its revision 0 where there are none any more. The error is aborted where they are another one's.
func (m *Mirror) ownSettings(ctx context.Context) (entry kv.Entry[settings], err error) {
	err = step(ctx, func(ctx context.Context) (err error) {
		entry, err = m.settings.Get(ctx, m.space.key(settingsName))
		return err
	})
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return kv.Entry[settings]{}, nil
	case err == nil && !entry.Value.Removing && (entry.Revision != m.origin.revision || !entry.Created.Equal(m.origin.at)):
		err = bus.Errorf(bus.Aborted, "%q was removed, and made anew, by somebody else", m.cfg.Name)
	}
	return entry, err
}

// markRemoving makes the settings those of a mirror that is being removed, and returns their revision, 0 where there are none any more. Who has the mirror open takes no more writes when
// he hears of it, and nobody opens it.
func (m *Mirror) markRemoving(ctx context.Context) (revision uint64, err error) {
	for {
		entry, err := m.ownSettings(ctx)
		if err != nil || entry.Revision == 0 || entry.Value.Removing {
			return entry.Revision, err
		}
		entry.Value.Removing = true
		err = step(ctx, func(ctx context.Context) (err error) {
			revision, err = m.settings.Update(ctx, entry.Key, entry.Value, entry.Revision)
			return err
		})
		if !errors.Is(err, kv.ErrConflict) {
			return revision, err
		}
	}
}

// wipe removes what the streams have of the mirror.
func (m *Mirror) wipe(ctx context.Context, o *removeOptions) error {
	var dead jetstream.Stream
	err := step(ctx, func(ctx context.Context) (err error) {
		dead, err = m.js.Stream(ctx, deadStream)
		return err
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
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
	objects, err := m.objects(ctx)
	if err != nil {
		return err
	}
	objects = slices.DeleteFunc(objects, func(o *jetstream.ObjectInfo) bool { return !strings.HasPrefix(o.Name, m.space.objects()) })
	for i, object := range objects {
		if err := step(ctx, func(ctx context.Context) error { return m.removeObject(ctx, object) }); err != nil {
			return err
		}
		if o.progress != nil {
			o.progress(i+1, len(objects))
		}
	}
	return nil
}

// empty removes what a stream has at a subject.
func (m *Mirror) empty(ctx context.Context, stream jetstream.Stream, subject string) error {
	access := bus.Access{Publish: []string{"$JS.API.STREAM.PURGE." + stream.CachedInfo().Config.Name}}
	err := step(ctx, func(ctx context.Context) error {
		return m.conn.Permitted(ctx, access, func(ctx context.Context) error { return stream.Purge(ctx, jetstream.WithPurgeSubject(subject)) })
	})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return nil
}
