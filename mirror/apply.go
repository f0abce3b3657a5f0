package mirror

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

const (
	firstPause   = 20 * time.Millisecond
	lastPause    = 5 * time.Second
	failurePause = 100 * time.Millisecond // after a 5xx, as the tries are counted
	mostPause    = time.Minute            // that a backend may ask for
	commitAge    = 100 * time.Millisecond // no request is sent while something applied longer ago is not committed
)

// apply sends a write to the backend until it has answered for good. The error is errEnded.
func (a *applier) apply(w *write) (*answer, error) {
	failures := 0 // answers of 5xx that count
	for attempt := 1; ; attempt++ {
		probe, err := a.waitReady(w)
		if errors.Is(err, errTooOld) {
			ans := &answer{backend: a.node.Name}
			return ans, a.s.judge(a, w, ans)
		}
		if err != nil {
			return nil, err
		}
		ans, pause, err := a.try(w)
		if err != nil && (a.ctx.Err() != nil || !a.s.lease.Valid()) {
			return nil, errEnded // what the backend did of it, the next sender does again
		}
		a.breaker.report(probe, err == nil || hopeless(err))
		a.ready.notify()
		switch {
		case err == nil && !isFailure(ans.status):
			return ans, a.s.judge(a, w, ans)
		case err == nil:
			if failures++; failures >= a.s.m.cfg.Tries {
				return ans, a.s.judge(a, w, ans)
			}
			pause = max(pause, backoff.Full(failures, failurePause, lastPause))
		case hopeless(err):
			a.s.m.log.Error("write given up, it cannot be sent", "backend", a.node.Name, "write", w.seq, "error", err)
			ans = &answer{backend: a.node.Name}
			return ans, a.s.judge(a, w, ans)
		}
		a.node.counts.retries.Add(1)
		if a.tooOld(w) {
			if ans == nil {
				ans = &answer{backend: a.node.Name}
			}
			return ans, a.s.judge(a, w, ans)
		}
		if !backoff.Sleep(a.ctx, max(pause, backoff.Full(attempt, firstPause, lastPause))) {
			return nil, errEnded
		}
	}
}

// tooOld tells whether a write has waited for longer than it may.
func (a *applier) tooOld(w *write) bool {
	age := a.s.m.cfg.MaxAge
	return age > 0 && a.s.now().Sub(a.waits(w)) > age
}

// waits is since when a write waits for the backend to take it: not while nobody sent, or the backend was in maintenance.
func (a *applier) waits(w *write) time.Time {
	if since := time.Unix(0, a.since.Load()); since.After(w.at) {
		return since
	}
	return w.at
}

// try makes one attempt. An error is one that says nothing about the write: the backend cannot be reached, takes too long, or has too much to do.
func (a *applier) try(w *write) (ans *answer, pause time.Duration, err error) {
	if a.behind.Load() {
		if a.slots.take(a.ctx) != nil {
			return nil, 0, errEnded
		}
		defer func() {
			a.slots.give()
			if err == nil && !isFailure(ans.status) {
				a.slots.applied(a.s.now(), w.at)
			}
		}()
	}
	body, release, err := a.s.bodyOf(a.ctx, w)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	begin := time.Now()
	ans, err = a.s.m.exchange(a.requests, a.node, w, body, a.s.ready)
	a.node.counts.write(w.method, begin, ans, err)
	if err != nil {
		return nil, 0, err
	}
	switch ans.status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return nil, min(retryAfter(ans), mostPause), errUnavailable
	}
	return ans, 0, nil
}

var errUnavailable = errors.New("mirror: the backend has too much to do")

// hopeless tells whether an attempt failed as all others will: the body is gone, or the message, of who may store some, is none that can be sent.
func hopeless(err error) bool {
	return errors.Is(err, errBodyGone) || errors.Is(err, leanhttp.ErrRequest)
}

// isFailure tells whether an answer may be another one when the write is sent again.
func isFailure(status int) bool { return status >= http.StatusInternalServerError }

var errTooOld = errors.New("mirror: the write has waited for too long")

// waitReady waits until a request may be sent. probe says that it is the one which finds out whether a backend that was down is back. The error is errEnded; or errTooOld,
// where that is still to be found out by another one, since it would take a probe for each write that waits otherwise.
func (a *applier) waitReady(w *write) (probe bool, err error) {
	for waiting := false; ; waiting = true {
		var ready <-chan struct{}
		if waiting {
			ready = a.ready.wait() // before looking again, so that no change is missed
		}
		if a.ctx.Err() != nil || !a.s.lease.Valid() {
			return false, errEnded
		}
		wait, probe, ok := a.allow()
		if ok {
			return probe, nil
		}
		if !a.paused.Load() && a.breaker.open() && a.tooOld(w) {
			return false, errTooOld
		}
		if !waiting {
			continue
		}
		ctx, cancel := a.ctx, context.CancelFunc(func() {})
		if wait > 0 {
			ctx, cancel = context.WithTimeout(ctx, wait)
		}
		select {
		case <-ready:
		case <-ctx.Done():
		}
		cancel()
	}
}

// allow tells whether a request may be sent now; else what happens next may allow it, or that the time has passed. 0 is no time.
func (a *applier) allow() (wait time.Duration, probe, ok bool) {
	if a.paused.Load() {
		return 0, false, false
	}
	if old := a.uncommitted.Load(); old != 0 && time.Since(time.Unix(0, old)) > commitAge {
		return commitAge, false, false
	}
	wait, probe = a.breaker.allow()
	return wait, probe, wait == 0
}
