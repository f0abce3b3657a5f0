package mirror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// ServeHTTP stores writes and answers them as the policy says, and sends reads to a backend.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if slices.Contains(m.cfg.WriteMethods, r.Method) {
		m.serveWrite(w, r)
		return
	}
	http.Error(w, "no reads", http.StatusNotImplemented)
}

func (m *Mirror) serveWrite(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	req := &request{method: r.Method, target: r.URL.RequestURI(), host: r.Host, fields: fieldsOf(r.Header, isHopByHop), body: body}
	id := req.get(headerIdempotency)
	if id == "" {
		id = nuid.Next()
		req.fields = append(req.fields, field{Name: headerIdempotency, Value: id})
	}
	lane := m.lane(r)
	ctx, cancel := context.WithTimeout(r.Context(), m.cfg.AnswerTimeout)
	defer cancel()
	to, answers, leave := m.waiters.add()
	defer leave()
	ack, err := m.js.PublishMsg(ctx, req.message(m.space.write(lane), id, to, m.cfg.Ack, ""), jetstream.WithRetryAttempts(0))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set(headerSeq, strconv.FormatUint(ack.Sequence, 10))
	rw.Header().Set(headerLane, strconv.Itoa(lane))
	select {
	case a, ok := <-answers:
		if !ok {
			break
		}
		for _, f := range a.fields {
			rw.Header().Add(f.Name, f.Value)
		}
		rw.WriteHeader(a.status)
		_, _ = rw.Write(a.body) // the client's loss
		return
	case <-ctx.Done():
	}
	rw.WriteHeader(http.StatusAccepted)
}

var errRefused = errors.New("mirror: refused")
