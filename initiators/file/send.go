package file

import (
	"context"
	"net/http"
	"slices"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

// send sends records, one at a time, until there are no more. What cannot be done at once when patient has ended is left to who comes next,
// and so is all that follows.
func (n *session) send(ctx, patient context.Context) {
	left := false
	for r := range n.queue {
		if left {
			continue
		}
		refused, err := n.deliver(ctx, patient, r)
		if left = err != nil; left {
			continue
		}
		if refused {
			n.s.counts.refused.Add(1)
		} else {
			n.s.counts.sent.Add(1)
		}
		n.s.counts.bytes.Add(uint64(r.end - r.offset)) //nolint:gosec // not negative
		n.s.counts.left.Add(r.offset - r.end)
		if r.of.did(r.seq, refused) || n.fresh.Add(1) == int64(max(1, n.s.cfg.Window/4)) {
			n.nudge()
		}
	}
}

// deliver sends a record until the target has taken it or it was put aside. The error is why it was given up.
func (n *session) deliver(ctx, patient context.Context, r *record) (refused bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if e := r.prepare(); e != nil {
		return true, n.putAside(patient, r, e)
	}
	req := r.request()
	for attempt := 1; ; attempt++ {
		if !n.lease.Valid() {
			return false, errLeaseLost
		}
		attemptCtx, cancel := context.WithTimeout(ctx, n.s.cfg.Timeout)
		_, err := n.s.target.Send(attemptCtx, req)
		cancel()
		switch {
		case err == nil:
			if attempt > 1 {
				n.fine(ctx, "target")
			}
			return false, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		}
		e := bus.AsError(err)
		if !n.again(e) || n.s.cfg.Tries > 0 && attempt >= n.s.cfg.Tries {
			return true, n.putAside(patient, r, e)
		}
		n.s.counts.retries.Add(1)
		n.trouble(ctx, "target", e)
		if !backoff.Sleep(patient, backoff.Full(attempt, n.s.cfg.RetryFirst, n.s.cfg.RetryLast)) {
			return false, context.Cause(patient)
		}
	}
}

// again tells whether the target may take the record later.
func (n *session) again(e *bus.Error) bool {
	return e.Status != http.StatusRequestEntityTooLarge && slices.Contains(n.s.cfg.RetryCodes, e.Code)
}

// putAside writes a refused record to the failed directory, however long that takes: the file is not done before.
func (n *session) putAside(patient context.Context, r *record, why *bus.Error) error {
	err := n.until(patient, n.s.cfg.Failed, func() error { return r.of.aside.put(r, why) })
	if err == nil {
		n.s.log.DebugContext(patient, "record refused", "file", r.of.name, "offset", r.offset, "code", why.Code)
	}
	return err
}
