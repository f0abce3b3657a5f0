package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxPage is how many bytes of payload a page has, beside its last timer.
	maxPage = 4 << 20
	// maxPreview is how many times a preview has.
	maxPreview     = 1000
	defaultPreview = 10
)

// query reads the parameters of a request, and refuses those it is not asked for.
type query struct {
	input

	values url.Values
}

func newQuery(r *http.Request, known ...string) *query {
	q := &query{values: url.Values{}}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		q.Wrong("query", "%v", err)
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			q.Unknown = true
			q.Wrong("query", "there is no parameter %.64q; there are %s", name, strings.Join(known, ", "))
			continue
		}
		q.values[name] = v
	}
	return q
}

func (q *query) get(name string) string {
	v := q.values[name]
	if len(v) > 1 {
		q.Wrong(name, "is given %d times", len(v))
	}
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

func (q *query) when(name string) (t time.Time) {
	if text := q.get(name); text != "" {
		q.instant(name, text, &t)
	}
	return t
}

func (q *query) number(name string, usual, most int) int {
	text := q.get(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		q.Wrong(name, "%.40q: want 1 to %d", text, most)
	}
	return n
}

func (q *query) filter() scheduler.Filter {
	f := scheduler.Filter{
		Prefix: q.get("prefix"), DueFrom: q.when("due_from"), DueBefore: q.when("due_before"), Cursor: q.get("cursor"),
	}
	for _, text := range q.values["state"] {
		if state := scheduler.State(text); slices.Contains(scheduler.States(), state) {
			f.States = append(f.States, state)
			continue
		}
		q.Wrong("state", "%.40q: want one of %q", text, scheduler.States())
	}
	for _, text := range q.values["label"] {
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			q.Wrong("label", "%.40q: want name:value", text)
			continue
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[name] = value
	}
	return f
}

// page is a part of a list, and where the next one begins.
type page struct {
	Timers []timerJSON `json:"timers"`
	Next   string      `json:"next,omitempty"`
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "prefix", "state", "due_from", "due_before", "label", "limit", "cursor")
	filter, limit := q.filter(), q.number("limit", defaultLimit, maxLimit)
	if err := q.Err(); err != nil {
		return err
	}
	p := page{Timers: []timerJSON{}}
	size, last := 0, ""
	for t, err := range h.timers.List(r.Context(), filter) {
		if bus.CodeOf(err) == bus.DataLoss { // one keeps nobody from seeing the others
			h.log.WarnContext(r.Context(), "a timer that is not readable is left out of a list", "timer", t.ID, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		if len(p.Timers) == limit || size > maxPage {
			p.Next = last
			break
		}
		p.Timers = append(p.Timers, showTimer(&t))
		size += len(t.Payload)
		last = t.Cursor()
	}
	h.answer(w, r, http.StatusOK, p)
	return nil
}

// preview is when a timer would fire.
type preview struct {
	Times []time.Time `json:"times"`
}

func (h *Handler) next(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "n")
	n := q.number("n", defaultPreview, maxPreview)
	if err := q.Err(); err != nil {
		return err
	}
	body, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	if err := contentType(r, body, typeJSON); err != nil {
		return err
	}
	spec, err := parseSpec(body)
	if err != nil {
		return err
	}
	times, err := scheduler.Next(spec, time.Now(), n)
	if err != nil {
		return err
	}
	p := preview{Times: []time.Time{}}
	for _, t := range times {
		p.Times = append(p.Times, t.UTC())
	}
	h.answer(w, r, http.StatusOK, p)
	return nil
}
