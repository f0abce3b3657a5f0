package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// errTaken is in the chain of the error that tells that another process has the id.
var errTaken = errors.New("another process has taken the id")

// Update changes the record: change is given a copy of it, and what it leaves there is announced from then on. Before the
// first announcement it is only stored. Later it is written at once, waiting for JetStream until ctx ends, and seen by
// others when Update returns nil; what is lost afterwards the heartbeat writes again.
//
// The record stays as it was when change returns an error, which Update returns as it is, when what it left is not valid
// (invalid_argument: see [MaxRecord] and the other limits), and when it could not be written; a write of which nobody knows
// is undone by the heartbeat. already_exists tells that another process has taken the id. Service, Instance and Session
// cannot be changed. What change leaves as it was is not written.
//
// Calls are made one after the other, so change sees what the one before left; it must not call Update itself.
func (a *Announcer) Update(ctx context.Context, change func(*Record) error) error {
	if err := a.updating.acquire(ctx); err != nil {
		return fmt.Errorf("registry: update %s: %w", a.key, err)
	}
	defer a.updating.release()
	before := a.Record()
	next := before.clone()
	if err := change(&next); err != nil {
		return err
	}
	if next.Service != before.Service || next.Instance != before.Instance || next.Session != before.Session {
		return bus.Errorf(bus.InvalidArgument, "registry: update %s: service, instance and session of a record cannot be changed", a.key)
	}
	old, err := encodeRecord(&before)
	if err != nil {
		return err
	}
	data, err := encodeRecord(&next)
	if err != nil {
		return err
	}
	if bytes.Equal(old, data) {
		return nil
	}
	if err := a.writing.acquire(ctx); err != nil {
		return fmt.Errorf("registry: update %s: %w", a.key, err)
	}
	defer a.writing.release()
	if a.isAnnounced() {
		if err := a.put(ctx, next, true); err != nil {
			notify(a.lost) // the heartbeat makes the bucket say what it did
			return fmt.Errorf("registry: update: %w", err)
		}
		a.tell(EventChanged, next)
	}
	a.mu.Lock()
	a.record = next.clone() // change may have kept what it was given
	a.mu.Unlock()
	return nil
}

// put writes record by compare-and-set on what this announcer wrote last, or, as long as it owns nothing, on whatever is
// there. The semaphore writing is held.
func (a *Announcer) put(ctx context.Context, record Record, owned bool) error {
	for {
		a.mu.Lock()
		revision := a.revision
		a.mu.Unlock()
		written, err := a.write(ctx, record, revision)
		if err == nil {
			a.own(written)
			return nil
		}
		if !errors.Is(err, kv.ErrConflict) && !errors.Is(err, kv.ErrExists) {
			return err
		}
		current, err := a.instances.Get(ctx, a.key)
		switch {
		case errors.Is(err, kv.ErrNotFound):
			revision = 0
		case err != nil && current.Revision == 0:
			return err
		case err == nil && owned && current.Value.Session != record.Session:
			return a.taken(current.Value)
		default:
			revision = current.Revision // unreadable, or an earlier attempt, or what was there before
		}
		a.mu.Lock()
		a.revision = revision
		a.mu.Unlock()
	}
}

func (a *Announcer) write(ctx context.Context, record Record, revision uint64) (uint64, error) {
	if revision == 0 {
		return a.instances.Create(ctx, a.key, record)
	}
	return a.instances.Update(ctx, a.key, record, revision)
}

func (a *Announcer) isAnnounced() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.announced
}

// own notes that the record in the bucket is this announcer's.
func (a *Announcer) own(revision uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revision, a.owned = revision, true
}

// verify asks whether the record that was this announcer's has become another's.
func (a *Announcer) verify(ctx context.Context) error {
	a.mu.Lock()
	owned := a.owned
	a.mu.Unlock()
	if !owned {
		return nil
	}
	current, err := a.instances.Get(ctx, a.key)
	switch {
	case err == nil && current.Value.Session != a.session:
		return a.taken(current.Value)
	case err == nil, errors.Is(err, kv.ErrNotFound), current.Revision != 0: // unreadable
		return nil
	}
	return err
}

func (a *Announcer) taken(by Record) error {
	text := fmt.Sprintf("registry: instance %q of service %q is now %s: this process has to stop serving as that", by.Instance, by.Service, whose(by))
	return bus.Wrap(bus.AlreadyExists, text, errTaken)
}

// withdraw removes the record before the liveness: a watcher that sees a record without liveness takes it for dead. What is
// another's stays.
func (a *Announcer) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if err := a.writing.acquire(ctx); err != nil {
		return fmt.Errorf("registry: withdraw %s: %w", a.key, err)
	}
	defer a.writing.release()
	defer a.forget()
	mine, err := a.removeRecord(ctx)
	if err == nil && !mine {
		return nil
	}
	if err == nil && a.isAnnounced() {
		a.tell(EventOffline, a.Record())
	}
	if err := errors.Join(err, a.removeLiveness(ctx)); err != nil {
		return fmt.Errorf("registry: withdraw %s: %w", a.key, err)
	}
	return nil
}

// removeRecord tells whether the record was this announcer's, or nobody's.
func (a *Announcer) removeRecord(ctx context.Context) (mine bool, err error) {
	a.mu.Lock()
	revision := a.revision
	a.mu.Unlock()
	for {
		if revision != 0 {
			err := a.instances.Delete(ctx, a.key, kv.IfRevision(revision))
			if err == nil || !errors.Is(err, kv.ErrConflict) {
				return true, err
			}
		}
		current, err := a.instances.Get(ctx, a.key)
		switch {
		case errors.Is(err, kv.ErrNotFound):
			return true, nil
		case err != nil && current.Revision == 0:
			return true, err
		case err == nil && current.Value.Session != a.session:
			return false, nil
		}
		revision = current.Revision
	}
}

// removeLiveness removes what this announcer wrote last, or, when that is not what is there, what belongs to no record.
func (a *Announcer) removeLiveness(ctx context.Context) error {
	if a.alive != 0 {
		err := a.liveness.Delete(ctx, a.key, kv.IfRevision(a.alive))
		if err == nil || !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
	current, err := a.liveness.Get(ctx, a.key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil && current.Revision == 0 {
		return err
	}
	if _, err := a.instances.Get(ctx, a.key); !errors.Is(err, kv.ErrNotFound) {
		return err // another has the id, and this may be its liveness
	}
	if err := a.liveness.Delete(ctx, a.key, kv.IfRevision(current.Revision)); !errors.Is(err, kv.ErrConflict) {
		return err
	}
	return nil
}

// forget makes the announcer as it was before it was claimed or run.
func (a *Announcer) forget() {
	a.alive = 0
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revision, a.owned, a.announced = 0, false, false
}
