package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	commitTimeout = 150 * time.Millisecond
	commitShare   = 4                     // so many times as long as the last commit took nothing is committed: it is dear where three servers store it
	commitPause   = 50 * time.Millisecond // but no longer
	commitIdle    = time.Second           // when nothing was applied, but the state of the backend may have changed
	commitFinal   = 2 * time.Second
)

// begin adopts what was applied by the last sender and fences it: its commits are refused from then on.
func (a *applier) begin(ctx context.Context) error {
	for {
		r, err := a.s.m.resume(ctx, a.node)
		if err != nil {
			return err
		}
		if !r.made.Equal(a.s.made) {
			return errAnew
		}
		a.lanes = make([]lane, a.s.m.cfg.Lanes)
		a.told = r.State
		for i, mark := range r.lanes(len(a.lanes)) {
			a.lanes[i].mark = mark
		}
		a.read, a.revision, a.gap, a.lost = r.floor(), r.revision, r.gap, r.Lost
		if a.read == r.Read {
			a.begun = r.ReadAt
		}
		next, err := a.s.m.nextWrite(ctx, a.read+1)
		if err == nil {
			a.first = next.Time
		} else if !errors.Is(err, errNone) {
			return err
		}
		err = a.commit(ctx, commitFinal)
		if err == nil || !errors.Is(err, errConflict) {
			return err
		}
		// Somebody committed meanwhile, or what was read was not the newest.
		if !a.s.lease.Valid() || ctx.Err() != nil {
			return errEnded
		}
	}
}

// committer commits every few milliseconds, until ctx ends. An error means that somebody else commits.
func (a *applier) committer(ctx context.Context) error {
	defer close(a.quiet)
	idle := time.NewTicker(commitIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.ended:
			return nil
		case <-a.wakeup:
		case <-idle.C:
		}
		begin := time.Now()
		if err := a.commit(ctx, commitTimeout); err != nil {
			return err
		}
		pause := min(max(a.s.m.cfg.Commit, commitShare*time.Since(begin)), commitPause)
		a.tellState(ctx)
		a.ready.notify()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// commit stores how far the backend is. While the servers do not answer it tries again; what was applied is not forgotten meanwhile. The
// error is errConflict, or errEnded.
func (a *applier) commit(ctx context.Context, timeout time.Duration) error {
	a.mu.Lock()
	clean := !a.dirty
	a.mu.Unlock()
	p, entries := a.snapshot(a.s.term)
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if clean && bytes.Equal(data, a.committed) && len(a.book.entries) == 0 {
		return nil
	}
	a.book.add(entries)
	for {
		if err = a.s.store(ctx, a, p, data, timeout); err == nil || errors.Is(err, errConflict) || ctx.Err() != nil {
			break
		}
		a.s.m.log.DebugContext(ctx, "progress not stored, trying again", "backend", a.node.Name, "error", err)
		if !backoff.Sleep(ctx, firstPause) || !a.s.holds() {
			err = errEnded
			break
		}
	}
	if err != nil {
		a.mu.Lock()
		a.dirty = true
		a.mu.Unlock()
		return err
	}
	a.committed = data
	a.mu.Lock()
	a.uncommitted.Store(a.fresh)
	a.mu.Unlock()
	return nil
}

// tellState says when the state of the backend has changed.
func (a *applier) tellState(ctx context.Context) {
	a.mu.Lock()
	waiting := a.waitingLocked()
	state := a.state()
	a.mu.Unlock()
	if state == a.told {
		return
	}
	if state == StateDown {
		a.node.counts.downs.Add(1)
	}
	a.s.m.log.InfoContext(ctx, "backend changed its state", "backend", a.node.Name, "state", string(state), "before", string(a.told), "waiting", waiting)
	a.told = state
}

// store makes one attempt to commit.
func (s *sender) store(ctx context.Context, a *applier, p *progress, data []byte, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.record(ctx, a, p)
	revision, err := s.m.putProgress(ctx, a.node.Name, data, a.revision)
	if err == nil {
		a.revision = revision
		return nil
	}
	// The answer may be lost: then what is there tells.
	look, done := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer done()
	stored, rerr := s.m.rawProgress(look, a.node.Name)
	switch {
	case rerr != nil:
		if errors.Is(err, errConflict) {
			return err
		}
		return errors.Join(err, rerr)
	case bytes.Equal(stored.Data, data):
		a.revision = stored.Seq
		return nil
	case stored.Seq > a.revision:
		return errConflict
	}
	return err
}
