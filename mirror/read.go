package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

// maxReadBody is how long the body of a read may be: it may have to be sent to several backends.
const maxReadBody = 1 << 20

// serveRead sends a read to one backend, and to another one where that did not begin to answer.
func (m *Mirror) serveRead(w http.ResponseWriter, r *http.Request) {
	want, err := m.minimumOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	body, release, err := m.readBody(w, r, maxReadBody)
	defer release()
	if err != nil {
		fail(w, err)
		return
	}
	var few [8]*node // no allocation for what is usual
	nodes, err := m.readable(r.Context(), few[:0], want)
	if errors.Is(err, errNoWrite) && len(r.Header[headerMinSeq]) == 0 {
		m.dropCookie(w, r)
		nodes, err = m.readable(r.Context(), few[:0], minimum{})
	}
	if err != nil {
		fail(w, err)
		return
	}
	a, err := m.ask(r, nodes, body)
	if err != nil {
		if r.Context().Err() == nil {
			m.log.DebugContext(r.Context(), "no backend answered a read", "error", err)
		}
		fail(w, err)
		return
	}
	defer a.close()
	m.copyAnswer(w, r, a)
}

// minimumOf is what a read asks a backend to have applied.
func (m *Mirror) minimumOf(r *http.Request) (minimum, error) {
	if v := r.Header[headerMinSeq]; len(v) > 0 {
		want, ok := m.parseMinimum(v[0], r.Header.Get(headerLane))
		if !ok || len(v) > 1 {
			return want, bus.Errorf(bus.InvalidArgument, "%s, with %s if there is one: want what the answer to a write had", headerMinSeq, headerLane).With("field", headerMinSeq)
		}
		return want, nil
	}
	want, _ := m.cookie(r) // one that was not ours is none
	return want, nil
}

// errNoWrite says that a read asks for a write whose number none has: it is one of a stream that was made anew since.
var errNoWrite = errors.New("there is no such write")

// readable adds the backends to all that may serve a read, the best first; it waits until there is one where the read asks for a write that is not applied yet.
func (m *Mirror) readable(ctx context.Context, all []*node, want minimum) ([]*node, error) {
	if all = m.choose(all, want); len(all) > 0 {
		return all, nil
	}
	if !anyActive(*m.nodes.Load()) {
		return nil, bus.Errorf(bus.Unavailable, "the mirror has no active backend")
	}
	if want.seq == 0 {
		return nil, bus.Errorf(bus.Unavailable, "no backend may serve reads now: none is healthy and near enough to what was written last")
	}
	timer := time.NewTimer(m.cfg.ReadWait)
	defer timer.Stop()
	for {
		changed := m.changed.wait()
		if all = m.choose(all, want); len(all) > 0 {
			return all, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, m.notRead(ctx, want)
		case <-ctx.Done():
			return nil, bus.AsError(context.Cause(ctx))
		}
	}
}

// notRead says why a read that asks for a write had to wait in vain.
func (m *Mirror) notRead(ctx context.Context, want minimum) error {
	if m.last.Load() < want.seq {
		if last, err := m.LastSeq(ctx); err == nil && last < want.seq {
			return bus.Wrap(bus.OutOfRange, fmt.Sprintf("there is no write %d, the last is %d: forget the numbers of earlier answers", want.seq, last), errNoWrite).With("field", headerMinSeq)
		}
	}
	return bus.Errorf(bus.Unavailable, "no backend that may serve reads has applied write %d yet", want.seq)
}

// ask sends a read to the first of the backends that answers.
func (m *Mirror) ask(r *http.Request, nodes []*node, body []byte) (readAnswer, error) {
	fields := m.readFields(r)
	deadline := time.Now().Add(m.cfg.ReadTimeout)
	var err error
	for _, n := range nodes {
		if !m.ejection.Begin(n.Name) {
			continue
		}
		var a readAnswer
		begin := time.Now()
		n.counts.get.underWay.Add(1)
		a, err = m.askNode(r, n, fields, body, deadline)
		n.counts.get.underWay.Add(-1)
		if err == nil {
			took := time.Since(begin)
			n.reads.took(took)
			n.counts.read(took, a.status)
			m.report(n, a.status < http.StatusInternalServerError)
			return a, nil
		}
		if r.Context().Err() != nil { // the client has gone, which says nothing of the backend
			return a, bus.AsError(context.Cause(r.Context()))
		}
		if errors.Is(err, leanhttp.ErrRequest) { // nor does this
			return a, bus.Wrap(bus.InvalidArgument, "the head of the request has what no backend may be sent", err)
		}
		m.report(n, false)
		n.counts.read(0, 0)
		err = fmt.Errorf("backend %q: %w", n.Name, err)
		if !time.Now().Before(deadline) {
			return a, withStatus(http.StatusGatewayTimeout, bus.DeadlineExceeded, "no backend began to answer within %v", m.cfg.ReadTimeout)
		}
		m.log.DebugContext(r.Context(), "backend did not answer a read, trying the next", "backend", n.Name, "error", err)
	}
	return readAnswer{}, bus.Wrap(bus.Unavailable, "no backend answers", err)
}

// report tells how a read went.
func (m *Mirror) report(n *node, ok bool) {
	if m.ejection.Report(n.Name, ok) {
		n.counts.ejected.Add(1)
		m.log.Info("backend ejected from reads, too many failed in a row", "backend", n.Name, "until", m.ejection.Until(n.Name))
	}
}

// readFields are the fields of a read as backends get them.
func (m *Mirror) readFields(r *http.Request) leanhttp.Header {
	withheld := m.withheld(r.Header)
	from := m.forwarded(r)
	fields := make(leanhttp.Header, 0, len(r.Header)+len(from))
	for name, values := range r.Header {
		if withheld(name) || isForwarded(name) && slices.ContainsFunc(from[:], func(f field) bool { return f.Name == name }) {
			continue
		}
		for _, v := range values {
			fields = append(fields, field{Name: name, Value: v})
		}
	}
	return append(fields, from[:]...)
}
