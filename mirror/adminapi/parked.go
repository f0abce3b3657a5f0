package adminapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// FormatParked is a parked write in the form in which the API shows it. Fields of its request and of the answer, and parameters of its query, that are secrets come without their values.
func FormatParked(p *mirror.ParkedWrite) ([]byte, error) {
	shown := struct {
		mirror.ParkedWrite

		Request       string `json:"request,omitempty"`
		RequestBase64 []byte `json:"request_base64,omitempty"`
		Answer        string `json:"answer,omitempty"`
		AnswerBase64  []byte `json:"answer_base64,omitempty"`
	}{ParkedWrite: *p}
	shown.Target = HideQuery(p.Target)
	shown.Request, shown.RequestBase64 = textOf(HideSecrets(p.Request))
	shown.Answer, shown.AnswerBase64 = textOf(HideSecrets(p.Answer))
	text, err := encode(shown, "")
	return bytes.TrimSuffix(text, []byte("\n")), err
}

// textOf is data as text, or as it is where it is none.
func textOf(data []byte) (string, []byte) {
	if utf8.Valid(data) {
		return string(data), nil
	}
	return "", data
}

// parkedWrite is a [mirror.ParkedWrite] as it is shown.
type parkedWrite struct{ *mirror.ParkedWrite }

// MarshalJSON is FormatParked.
func (p parkedWrite) MarshalJSON() ([]byte, error) { return FormatParked(p.ParkedWrite) }

var _ json.Marshaler = parkedWrite{}

// listParked lists the writes that wait for somebody to deal with them.
func (h *Handler) listParked(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r)
	f := mirror.ParkedFilter{Backend: q.text("backend"), Cursor: q.text("cursor")}
	limit := q.number("limit", maxLimit, defaultLimit)
	if err := q.end(); err != nil {
		return err
	}
	found := struct {
		Parked []parkedWrite `json:"parked"`
		More   bool          `json:"more"`
		Next   string        `json:"next,omitempty"` // the cursor of the next page
	}{Parked: []parkedWrite{}}
	for p, err := range h.mirror.Parked().List(r.Context(), f) {
		if err != nil {
			return err
		}
		if n := len(found.Parked); uint64(n) == limit {
			found.More, found.Next = true, found.Parked[n-1].Cursor()
			break
		}
		found.Parked = append(found.Parked, parkedWrite{&p})
	}
	h.answer(w, r, http.StatusOK, found)
	return nil
}

// ofParked calls f for the parked write in the path.
func (h *Handler) ofParked(r *http.Request, f func(backend string, seq uint64) error) error {
	backend := r.PathValue("backend")
	seq, err := pathSeq(r)
	if err != nil || bus.CheckToken("backend", backend) != nil {
		return bus.Errorf(bus.NotFound, "no write %.40q of backend %.80q is parked", r.PathValue("seq"), backend)
	}
	return f(backend, seq)
}

func (h *Handler) getParked(w http.ResponseWriter, r *http.Request) error {
	return h.ofParked(r, func(backend string, seq uint64) error {
		p, err := h.mirror.Parked().Show(r.Context(), backend, seq)
		if err != nil {
			return err
		}
		h.answer(w, r, http.StatusOK, parkedWrite{&p})
		return nil
	})
}

// retryParked sends a parked write to its backend once more.
func (h *Handler) retryParked(w http.ResponseWriter, r *http.Request) error {
	return h.ofParked(r, func(backend string, seq uint64) error {
		p, err := h.mirror.Parked().Retry(r.Context(), backend, seq)
		if err != nil {
			return err
		}
		p.Request, p.Answer = nil, nil
		h.answer(w, r, http.StatusOK, parkedWrite{&p})
		return nil
	})
}

func (h *Handler) dropParked(w http.ResponseWriter, r *http.Request) error {
	return h.ofParked(r, func(backend string, seq uint64) error {
		if err := h.mirror.Parked().Drop(r.Context(), backend, seq); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}
