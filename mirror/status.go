package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// States of a write, and what it is to a backend.
const (
	writeQueued   = "queued"   // no backend has applied it
	writePartly   = "partly"   // some have
	writeApplied  = "applied"  // all have that are active
	writeGivenUp  = "given-up" // none has, and none will by itself; to one backend: it never answered
	writeWaiting  = "waiting"  // to one backend: not yet
	writeNotMeant = "not-sent" // no backend is active that is meant to have it; to one backend: its writes began later
	writeMissing  = "missing"  // to one backend: it needs a copy of another's data
)

// WriteStatus is what became of a write.
type WriteStatus struct {
	Seq      uint64                   `json:"seq"`
	Lane     int                      `json:"lane"`
	State    string                   `json:"state"` // queued, partly applied, applied by all that it is meant for, given-up for all of them, or not-sent where it is meant for none that is active
	Stored   *time.Time               `json:"stored,omitempty"`
	Backends map[string]BackendStatus `json:"backends,omitempty"`
	URL      string                   `json:"url,omitempty"`
}

// BackendStatus is what a write is to a backend: waiting, applied (which is how it goes on after an answer, whatever that was), given-up as it never answered, not-sent as its writes
// began later, or missing as it lacks writes that are gone.
type BackendStatus struct {
	State  string `json:"state"`
	Status int    `json:"status,omitempty"` // of its answer
}

// writeQueued answers that a write is stored and where to ask for it.
func (m *Mirror) writeQueued(w http.ResponseWriter, r *http.Request, a accepted) {
	s := WriteStatus{Seq: a.seq, Lane: a.lane, State: writeQueued, URL: m.cfg.StatusPath + strconv.FormatUint(a.seq, 10)}
	if a.duplicate {
		w.Header().Set(headerDuplicate, "true")
		m.fillStatus(r.Context(), &s)
	}
	w.Header().Set("Location", s.URL)
	writeJSON(w, http.StatusAccepted, s)
}

// serveStatus tells what became of a write.
func (m *Mirror) serveStatus(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuseMethod(w, r, "GET, HEAD")
		return
	}
	text := strings.TrimPrefix(r.URL.Path, m.cfg.StatusPath)
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil || seq == 0 || strconv.FormatUint(seq, 10) != text {
		fail(w, bus.Errorf(bus.NotFound, "%.40q is no number of a write", text))
		return
	}
	ctx := r.Context()
	s, err := m.WriteStatus(ctx, seq)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, s)
}

// WriteStatus tells what became of a write. The error is not_found where the mirror keeps none of the number.
func (m *Mirror) WriteStatus(ctx context.Context, seq uint64) (WriteStatus, error) {
	s, err := m.lookUp(ctx, seq)
	if err != nil {
		return WriteStatus{}, err
	}
	m.fillStatus(ctx, s)
	return *s, nil
}

// lookUp finds a write that is kept.
func (m *Mirror) lookUp(ctx context.Context, seq uint64) (*WriteStatus, error) {
	raw, err := m.rawWrite(ctx, seq)
	switch {
	case errors.Is(err, errNone), err == nil && !strings.HasPrefix(raw.Subject, strings.TrimSuffix(m.space.writes(), "*")):
		return nil, bus.Errorf(bus.NotFound, "this mirror keeps no write %d", seq)
	case err != nil:
		return nil, bus.Wrap(bus.Unavailable, "the store of writes does not answer", err)
	}
	lane, ok := m.laneAt(raw.Subject)
	if !ok {
		return nil, bus.Errorf(bus.NotFound, "this mirror keeps no write %d", seq)
	}
	return &WriteStatus{Seq: seq, Lane: lane, Stored: &raw.Time}, nil
}

// fillStatus says what the backends have made of a write.
func (m *Mirror) fillStatus(ctx context.Context, s *WriteStatus) {
	s.Backends = map[string]BackendStatus{}
	answers, err := m.ledgerStatus(ctx, s.Seq)
	if err != nil {
		m.log.DebugContext(ctx, "ledger not read, a status is given without", "error", err)
	}
	applied, waiting, givenUp, missing := 0, 0, 0, 0
	for _, n := range *m.nodes.Load() {
		if !n.Active {
			continue
		}
		b := BackendStatus{State: writeWaiting}
		switch {
		case n.From >= s.Seq:
			b.State = writeNotMeant
		case n.applied(s.Lane, s.Seq):
			status, known := answers[n.Name]
			if known && status == 0 {
				b.State = writeGivenUp
				givenUp++
				break
			}
			b.State, b.Status = writeApplied, status
			applied++
		case n.State() == StateGap:
			b.State = writeMissing
			missing++
		default:
			waiting++
		}
		s.Backends[n.Name] = b
	}
	switch {
	case applied+waiting+givenUp+missing == 0: // one that comes is sent what is stored from then on, unless it is told otherwise
		s.State = writeNotMeant
	case waiting == 0 && givenUp == 0 && applied > 0:
		s.State = writeApplied
	case applied > 0:
		s.State = writePartly
	case waiting == 0 && givenUp > 0:
		s.State = writeGivenUp
	default:
		s.State = writeQueued
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		fail(w, bus.Wrap(bus.Internal, "the answer does not encode", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client has gone
}
