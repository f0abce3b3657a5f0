package election

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/kv"
)

// handover is how long who gave up a leadership stands back at most: the others hear of it within milliseconds.
const handover = 250 * time.Millisecond

// campaign is what becomes of a candidacy.
type campaign struct {
	cancel     context.CancelCauseFunc
	leadership *Leadership // nil until elected
}

// Campaign waits until candidate leads the service, for as long as ctx lets it. The candidate, 1 to 255 bytes of text, is a
// name for people to read, as a rule the id of the instance. Who waits hears at once when the leadership is free, and tries
// each TTL besides. Candidates have no order: one of those that wait is elected.
//
// The error is [ErrCandidate] when this candidate of this Election campaigns for the service or leads it already,
// [ErrClosed] after Close, else as of [kv.Leases.Wait]: as a rule why ctx ended. ctx has no meaning for the leadership: that lasts until
// [Leadership.Resign], until it is lost, or until Close.
func (e *Election) Campaign(ctx context.Context, service, candidate string) (*Leadership, error) {
	l, err := e.campaign(ctx, candidacy{service, candidate})
	if err != nil {
		return nil, fmt.Errorf("election: campaign of %.80q for %.80q: %w", candidate, service, err)
	}
	return l, nil
}

func (e *Election) campaign(ctx context.Context, who candidacy) (*Leadership, error) {
	if err := who.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := e.enter(who, cancel)
	if err != nil {
		return nil, err
	}
	defer e.wg.Done()
	lease, err := e.leases.Wait(ctx, e.prefix+who.service, who.candidate, e.ttl)
	if err != nil {
		e.leave(who, c)
		return nil, err
	}
	l := newLeadership(lease)
	e.mu.Lock()
	closed := e.closed
	c.leadership = l
	e.mu.Unlock()
	e.wg.Go(func() {
		<-l.Lost()
		l.end()
		e.leave(who, c)
		e.log.InfoContext(ctx, "leadership has ended", "service", who.service, "candidate", who.candidate, "term", l.Term())
	})
	if closed { // while it was elected
		rctx, stop := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
		defer stop()
		return nil, errors.Join(ErrClosed, l.Resign(rctx))
	}
	e.log.InfoContext(ctx, "elected", "service", who.service, "candidate", who.candidate, "term", l.Term())
	return l, nil
}

// enter notes a campaign, which e.wg counts until it has an outcome.
func (e *Election) enter(who candidacy, cancel context.CancelCauseFunc) (*campaign, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if c := e.candidates[who]; c != nil && (c.leadership == nil || c.leadership.Valid()) {
		return nil, ErrCandidate
	}
	c := &campaign{cancel: cancel}
	e.candidates[who] = c
	e.wg.Add(1)
	return c, nil
}

func (e *Election) leave(who candidacy, c *campaign) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.candidates[who] == c {
		delete(e.candidates, who)
	}
}

// Run campaigns, calls work when elected, and campaigns again when work has returned, until ctx ends; then it returns nil. It
// ends besides with an error of [Election.Campaign], such as permission_denied; a full store it waits out.
//
// The ctx of work is that of [Leadership.Context]: it ends with the leadership. Work asks ctx.Err before each act, which
// tells also when the process has just woken from a freeze, and hands term on to whoever must not obey two leaders. When
// work returns nil, Run resigns and stands back for a moment, so that another candidate comes first if there is one. An
// error of work ends Run, which resigns and returns it; only what work says after its leadership was lost is logged and
// otherwise ignored. A panic of work resigns too, on its way out.
func (e *Election) Run(ctx context.Context, service, candidate string, work func(ctx context.Context, term kv.Term) error) error {
	for {
		l, err := e.Campaign(ctx, service, candidate)
		switch {
		case ctx.Err() != nil && l == nil:
			return nil
		case err != nil:
			return err
		}
		if err := e.lead(ctx, l, work); err != nil {
			return fmt.Errorf("election: %.80q as leader of %q: %w", candidate, service, err)
		}
		e.standBack(ctx, service)
	}
}

// standBack returns when somebody leads, or soon when nobody wants to.
func (e *Election) standBack(ctx context.Context, service string) {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	for c, err := range e.Watch(ctx, service) {
		if err == nil && c.Kind == Got {
			return
		}
	}
	<-ctx.Done() // a closed connection ends the watch at once
}

func (e *Election) lead(ctx context.Context, l *Leadership, work func(ctx context.Context, term kv.Term) error) error {
	defer func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
		defer cancel()
		if err := l.Resign(rctx); err != nil && !errors.Is(err, ErrNotLeader) {
			e.log.WarnContext(ctx, "could not resign: nobody else is elected before the ttl has passed", "term", l.Term(), "error", err)
		}
	}()
	wctx, cancel := l.Context(ctx)
	defer cancel()
	err := work(wctx, l.Term())
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		err = nil // a clean stop
	}
	if err != nil && ctx.Err() == nil && !l.Valid() {
		e.log.WarnContext(ctx, "the leadership was lost, and its work ended", "term", l.Term(), "error", err)
		err = nil
	}
	return err
}
