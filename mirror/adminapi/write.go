package adminapi

import (
	"net/http"
	"strconv"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/restapi"
	"github.com/skybus-io/skybus/mirror"
)

const (
	defaultLimit = 1000
	maxLimit     = 10_000
)

// getWrite shows what became of a write.
func (h *Handler) getWrite(w http.ResponseWriter, r *http.Request) error {
	seq, err := pathSeq(r)
	if err != nil {
		return err
	}
	s, err := h.mirror.WriteStatus(r.Context(), seq)
	if err != nil {
		return err
	}
	h.answer(w, r, http.StatusOK, s)
	return nil
}

// pathSeq is the number of a write in the path. What no write can have is not found.
func pathSeq(r *http.Request) (uint64, error) {
	text := r.PathValue("seq")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil || seq == 0 || strconv.FormatUint(seq, 10) != text {
		return 0, bus.Errorf(bus.NotFound, "there is no write %.40q", text)
	}
	return seq, nil
}

// query reads the parameters of a request one by one.
type query struct {
	restapi.InputError

	values map[string][]string
}

func readQuery(r *http.Request) *query { return &query{values: r.URL.Query()} }

func (q *query) take(name string) []string {
	v := q.values[name]
	delete(q.values, name)
	return v
}

func (q *query) text(name string) string {
	v := q.take(name)
	if len(v) > 1 {
		q.Wrong(name, "it is there more than once")
	}
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

// number is one of 1 to most.
func (q *query) number(name string, most, def uint64) uint64 {
	text := q.text(name)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < 1 || n > most {
		q.Wrong(name, "want a number of 1 to %d", most)
	}
	return n
}

// end is what was wrong, nil for nothing. Parameters that nobody has taken are.
func (q *query) end() error {
	q.take("pretty")
	for _, name := range sortedKeys(q.values) {
		q.Unknown = true
		q.Wrong(cut(name), "there is no such parameter")
	}
	return q.Err()
}

// diff lists the writes that backends have answered differently.
func (h *Handler) diff(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r)
	f := mirror.DiffFilter{
		From: q.number("from", 1<<63, 0), To: q.number("to", 1<<63, 0), By: mirror.DiffBy(q.text("by")), Backends: q.take("backend"),
	}
	limit := q.number("limit", maxLimit, defaultLimit)
	if err := q.end(); err != nil {
		return err
	}
	found := struct {
		Writes []mirror.Difference `json:"writes"`
		Next   uint64              `json:"next,omitempty"`
	}{Writes: []mirror.Difference{}}
	for d, err := range h.mirror.Diff(r.Context(), f) {
		if err != nil {
			return err
		}
		if uint64(len(found.Writes)) == limit {
			found.Next = d.Seq
			break
		}
		d.Target = HideQuery(d.Target)
		found.Writes = append(found.Writes, d)
	}
	h.answer(w, r, http.StatusOK, found)
	return nil
}

// repair sends a backend writes again.
func (h *Handler) repair(w http.ResponseWriter, r *http.Request) error {
	in, err := h.readInput(w, r)
	if err != nil {
		return err
	}
	var from uint64
	if take(in, "from", "the number of a write", &from) && from == 0 {
		in.Wrong("from", "want the number of a write: 1 or more")
	}
	if err := in.end(); err != nil {
		return err
	}
	b, err := h.mirror.Repair(r.Context(), r.PathValue("name"), from)
	if err != nil {
		return err
	}
	return h.showBackend(w, r, http.StatusOK, b.Name)
}
