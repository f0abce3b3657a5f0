package httpapi

import (
	"net/http"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// letterJSON is a dead letter.
type letterJSON struct {
	Delivery string    `json:"delivery"`
	Died     time.Time `json:"died"`
	Error    string    `json:"error"`
	Code     bus.Code  `json:"code,omitempty"`
	Attempts int       `json:"attempts"`
	// Size is that of the payload, which a list leaves out.
	Size int `json:"size"`
	// Truncated letters have lost their payload, and cannot be delivered again.
	Truncated bool      `json:"truncated,omitempty"`
	Timer     timerJSON `json:"timer"`
}

func showLetter(l *scheduler.DeadLetter) letterJSON {
	return letterJSON{l.ID, utc(l.Died), l.Error, l.Code, l.Attempts, l.Size, l.Truncated, showTimer(&l.Timer)}
}

// letters is a part of the list of dead letters, and the last one's delivery where there are more.
type letters struct {
	Dead []letterJSON `json:"dead"`
	Next string       `json:"next,omitempty"`
}

func (h *Handler) listDead(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "timer", "prefix", "limit", "cursor")
	filter := scheduler.DeadFilter{TimerID: q.get("timer"), Prefix: q.get("prefix"), After: q.get("cursor")}
	limit := q.number("limit", defaultLimit, maxLimit)
	if err := q.Err(); err != nil {
		return err
	}
	p := letters{Dead: []letterJSON{}}
	for l, err := range h.timers.DeadLetters().List(r.Context(), filter) {
		if filter.After != "" && bus.CodeOf(err) == bus.NotFound {
			q.Wrong("cursor", "%.160q: the letter that the next page begins after is gone", filter.After)
			return q.Err()
		}
		if err != nil {
			return err
		}
		if len(p.Dead) == limit {
			p.Next = p.Dead[limit-1].Delivery
			break
		}
		p.Dead = append(p.Dead, showLetter(&l))
	}
	h.answer(w, r, http.StatusOK, p)
	return nil
}

func (h *Handler) getDead(w http.ResponseWriter, r *http.Request) error {
	id, err := pathDelivery(r)
	if err != nil {
		return err
	}
	l, err := h.timers.DeadLetters().Get(r.Context(), id)
	if err != nil {
		return err
	}
	h.answer(w, r, http.StatusOK, showLetter(&l))
	return nil
}

func (h *Handler) removeDead(w http.ResponseWriter, r *http.Request) error {
	id, err := pathDelivery(r)
	if err != nil {
		return err
	}
	if err := h.timers.DeadLetters().Remove(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) redrive(w http.ResponseWriter, r *http.Request) error {
	id, err := pathDelivery(r)
	if err != nil {
		return err
	}
	if err := h.timers.DeadLetters().Redrive(r.Context(), id); err != nil {
		return err
	}
	h.answer(w, r, http.StatusAccepted, delivered{id})
	return nil
}
