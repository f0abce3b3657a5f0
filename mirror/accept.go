package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

const (
	maxIdempotencyKey = 256

	headerOmitted   = "Skybus-Body-Omitted" // of an answer whose body is too large to be passed on
	headerDuplicate = "Skybus-Duplicate"    // of an answer to a write that was stored before
)

// accepted is a write that was stored.
type accepted struct {
	seq       uint64
	lane      int
	duplicate bool
}

// serveWrite stores a write, and answers it. Nothing of it is stored before all of it was read, and once it was stored nothing that happens to
// the client changes that.
func (m *Mirror) serveWrite(w http.ResponseWriter, r *http.Request) {
	if !m.writes.take(1) {
		fail(w, bus.Errorf(bus.Unavailable, "this process works on %d writes already; nothing was stored", m.cfg.MaxWrites).With("stored", "no"))
		return
	}
	defer m.writes.give(1)
	if !anyActive(*m.nodes.Load()) {
		fail(w, bus.Errorf(bus.Unavailable, "the mirror has no active backend; nothing was stored").With("stored", "no"))
		return
	}
	ack := m.cfg.ackFor(r.Method, r.URL.Path)
	to, answers, leave := "", (<-chan *answer)(nil), func() {}
	if ack != Queued {
		to, answers, leave = m.waiters.add()
	}
	defer leave()
	stored, err := m.accept(w, r, to, ack)
	if err != nil {
		m.counts.refused.Add(1)
		fail(w, err)
		return
	}
	m.counts.stored.Add(1)
	h := w.Header()
	h.Set(headerSeq, strconv.FormatUint(stored.seq, 10))
	h.Set(headerLane, strconv.Itoa(stored.lane))
	m.setCookie(w, r, stored)
	if a := m.waitAnswer(r.Context(), stored, answers); a != nil {
		writeAnswer(w, a)
		return
	}
	m.counts.queued.Add(1)
	m.writeQueued(w, r, stored)
}

// accept reads a write and stores it.
func (m *Mirror) accept(w http.ResponseWriter, r *http.Request, to string, ack Ack) (accepted, error) {
	body, release, err := m.readBody(w, r, m.cfg.MaxBody)
	defer release()
	if err != nil {
		return accepted{}, err
	}
	req, err := m.newRequest(r, body)
	if err != nil {
		return accepted{}, err
	}
	lane := m.lane(r)
	ctx := context.WithoutCancel(r.Context()) // the client may leave, the write is stored nevertheless
	done, err := m.store(ctx, req, m.space.write(lane), m.messageID(req, lane), to, ack)
	if err != nil {
		w.Header().Set(headerIdempotency, req.get(headerIdempotency)) // the one to repeat it with
		return accepted{}, err
	}
	return accepted{done.seq, lane, done.duplicate}, nil
}

// newRequest is a client's write as backends get it.
func (m *Mirror) newRequest(r *http.Request, body []byte) (*request, error) {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return nil, err
	}
	withheld := m.withheld(r.Header)
	from := m.forwarded(r)
	req := &request{method: r.Method, target: r.URL.RequestURI(), host: r.Host, body: body}
	req.fields = fieldsOf(r.Header, func(name string) bool {
		return withheld(name) || name == headerIdempotency || isForwarded(name) && slices.ContainsFunc(from[:], func(f field) bool { return f.Name == name })
	})
	req.fields = append(append(req.fields, from[:]...), field{Name: headerIdempotency, Value: key})
	if req.check() != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "the head of the request has characters that no backend may be sent")
	}
	return req, nil
}

// idempotencyKey is the client's, or a new one.
func idempotencyKey(h http.Header) (string, error) {
	switch v := h[headerIdempotency]; {
	case len(v) == 0:
		return nuid.Next(), nil
	case len(v) > 1 || v[0] == "" || len(v[0]) > maxIdempotencyKey || strings.ContainsFunc(v[0], func(c rune) bool { return c <= ' ' || c > '~' }):
		return "", bus.Errorf(bus.InvalidArgument, "%s: want one of 1 to %d visible ASCII characters", headerIdempotency, maxIdempotencyKey).With("field", headerIdempotency)
	default:
		return v[0], nil
	}
}

// messageID is by what the server knows a write again. All that makes it another one is part of it, also who says it: somebody who is not who he says
// must not be able to take the place of the one who is, by whatever field that is told. So is which mirror of the name it was sent to: the server knows writes of one that was removed.
func (m *Mirror) messageID(r *request, lane int) string {
	h := sha256.New()
	var size [8]byte
	add := func(s string) {
		binary.LittleEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	for _, s := range []string{
		m.space.ns.String(), m.space.mirror, m.origin.String(), strconv.Itoa(lane), r.get(headerIdempotency), r.method, r.host, r.target,
	} {
		add(s)
	}
	for _, f := range r.fields {
		if variesByTry(f.Name) {
			continue
		}
		if f.Name == "Cookie" {
			if f.Value = withoutCookie(f.Value, m.cfg.Cookie); f.Value == "" {
				continue
			}
		}
		add(f.Name)
		add(f.Value)
	}
	add("")
	h.Write(r.body)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// variesByTry tells whether a field, by its canonical name, may be another one when a client sends the same write again: what says by which way, when and as which
// try it came. It says nothing of who sent it that could be believed.
func variesByTry(name string) bool {
	switch name {
	case "Accept", "Age", "B3", "Baggage", "Cache-Control", "Cf-Ray", "Date", "Dnt", "Forwarded", "Origin", "Pragma", "Priority", "Referer", "Sentry-Trace",
		"Traceparent", "Tracestate", "Uber-Trace-Id", "User-Agent", "Via", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "X-Correlation-Id", "X-Forwarded-For",
		"X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id":
		return true
	}
	for _, prefix := range []string{"Accept-", "Sec-", "X-B3-", "X-Datadog-", "X-Envoy-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// withoutCookie is a Cookie field without the cookie called name.
func withoutCookie(value, name string) string {
	if name == "" || !strings.Contains(value, name) {
		return value
	}
	pairs := strings.Split(value, ";")
	for i, p := range pairs {
		pairs[i] = strings.TrimSpace(p)
	}
	return strings.Join(slices.DeleteFunc(pairs, func(p string) bool { return strings.HasPrefix(p, name+"=") }), "; ")
}

// waitAnswer waits for what the policy wants to hear. Nil means that it is not known, or not yet, or that it was given up for those backends whose answer counts.
func (m *Mirror) waitAnswer(ctx context.Context, a accepted, answers <-chan *answer) *answer {
	if answers == nil || a.duplicate {
		return nil
	}
	timer := time.NewTimer(m.cfg.AnswerTimeout)
	defer timer.Stop()
	select {
	case ans := <-answers: // nil when the mirror is closed
		if ans == nil || ans.status == 0 {
			return nil
		}
		return ans
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// writeAnswer passes on what a backend answered to a write.
func writeAnswer(w http.ResponseWriter, a *answer) {
	h := w.Header()
	for _, f := range a.fields {
		if name := http.CanonicalHeaderKey(f.Name); !isOurs(dashed(name)) && !isHopByHop(name) && !httpx.HopByHop(name) {
			h[name] = append(h[name], f.Value)
		}
	}
	if a.tooLarge {
		h.Del("Etag")
		h.Set(headerOmitted, "too-large")
	}
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	guessNoType(h)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client has gone
}

// guessNoType keeps net/http from taking the type of an answer without one from how its body begins: what a client wrote might be run as a page.
func guessNoType(h http.Header) {
	if _, known := h["Content-Type"]; !known {
		h["Content-Type"] = nil
	}
}
