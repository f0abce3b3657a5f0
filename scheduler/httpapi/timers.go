package httpapi

import (
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// endpoint answers one method at one path.
type endpoint struct {
	method, path string
	serve        func(w http.ResponseWriter, r *http.Request) error
	long         bool // takes as long as it likes
}

// endpoints are those of the API below /v1/. No id can take the place of a path: nothing is posted to a timer itself.
func (h *Handler) endpoints() []endpoint {
	return []endpoint{
		{http.MethodPost, "/v1/timers", h.post, true},
		{http.MethodGet, "/v1/timers", h.list, true},
		{http.MethodPost, "/v1/timers/next", h.next, false},
		{http.MethodGet, "/v1/timers/{id}", h.get, false},
		{http.MethodPatch, "/v1/timers/{id}", h.patch, false},
		{http.MethodDelete, "/v1/timers/{id}", h.cancel, false},
		{http.MethodPost, "/v1/timers/{id}/fire", h.fire, false},
		{http.MethodPost, "/v1/timers/{id}/pause", h.pause, false},
		{http.MethodPost, "/v1/timers/{id}/resume", h.resume, false},
		{http.MethodGet, "/v1/dead/timers", h.listDead, true},
		{http.MethodGet, "/v1/dead/timers/{delivery}", h.getDead, false},
		{http.MethodDelete, "/v1/dead/timers/{delivery}", h.removeDead, false},
		{http.MethodPost, "/v1/dead/timers/{delivery}/redrive", h.redrive, false},
		{http.MethodGet, "/v1/openapi.json", h.describe, false},
	}
}

func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	allow := map[string]string{}
	for _, e := range h.endpoints() {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) {
			if !e.long {
				ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
				defer cancel()
				r = r.WithContext(ctx)
			}
			if err := e.serve(w, r); err != nil {
				h.fail(w, r, err)
			}
		})
		allow[e.path] = strings.TrimPrefix(allow[e.path]+", "+e.method, ", ")
	}
	// What is not posted to it is asked of the timer with that id.
	delete(allow, "/v1/timers/next")
	for path, methods := range allow {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", methods)
			e := bus.Errorf(bus.Unimplemented, "method %.20q: want %s", r.Method, methods)
			e.Status = http.StatusMethodNotAllowed
			h.fail(w, r, e)
		})
	}
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, bus.Errorf(bus.NotFound, "there is nothing at this path; /v1/openapi.json says what there is"))
	})
	return mux
}

// pathID is the timer's id in the path. One that no timer can have is not found.
func pathID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if bus.CheckToken("id", id) != nil {
		return "", bus.Errorf(bus.NotFound, "there is no timer %.80q", id)
	}
	return id, nil
}

// pathDelivery is the delivery's id in the path, which is longer than a token.
func pathDelivery(r *http.Request) (string, error) {
	id := r.PathValue("delivery")
	for rest := id; ; rest = rest[bus.MaxToken:] {
		if bus.CheckToken("delivery", rest[:min(len(rest), bus.MaxToken)]) != nil || len(id) > 2*bus.MaxToken {
			return "", bus.Errorf(bus.NotFound, "there is no dead letter of the delivery %.160q", id)
		}
		if len(rest) <= bus.MaxToken {
			return id, nil
		}
	}
}

// contentType refuses bodies of other types than those given. What curl -d calls a form, without looking, is taken for
// JSON when it looks like that.
func contentType(r *http.Request, body []byte, want ...string) error {
	given := r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(given)
	if err == nil && media == typeForm && len(body) > 0 && body[0] == '{' {
		return nil
	}
	for _, w := range want {
		if err == nil && media == w {
			return nil
		}
	}
	e := bus.Errorf(bus.InvalidArgument, "content type %.80q: want %s", given, strings.Join(want, " or "))
	e.Status = http.StatusUnsupportedMediaType
	return e
}

// post creates a timer, or as many as a stream has.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && media == typeLines {
		return h.postLines(w, r)
	}
	body, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	if err := contentType(r, body, typeJSON, typeLines); err != nil {
		return err
	}
	spec, err := parseSpec(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	t, err := h.timers.Create(ctx, spec)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/timers/"+t.ID)
	h.answerTimer(w, r, http.StatusCreated, &t)
	return nil
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	t, err := h.timers.Get(r.Context(), id)
	if err != nil {
		return err
	}
	h.answerTimer(w, r, http.StatusOK, &t)
	return nil
}

func (h *Handler) cancel(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	rev, err := ifMatch(r)
	if err != nil {
		return err
	}
	if err := h.timers.Cancel(r.Context(), id, rev); err != nil {
		return unmatched(err, rev)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) fire(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	rev, err := ifMatch(r)
	if err != nil {
		return err
	}
	delivery, err := h.timers.FireNow(r.Context(), id, rev)
	if err != nil {
		return unmatched(err, rev)
	}
	h.answer(w, r, http.StatusAccepted, delivered{delivery})
	return nil
}

// delivered names a delivery that was begun.
type delivered struct {
	Delivery string `json:"delivery"`
}

func (h *Handler) pause(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	rev, err := ifMatch(r)
	if err != nil {
		return err
	}
	t, err := h.timers.Pause(r.Context(), id, rev)
	if err != nil {
		return unmatched(err, rev)
	}
	h.answerTimer(w, r, http.StatusOK, &t)
	return nil
}

func (h *Handler) resume(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	rev, err := ifMatch(r)
	if err != nil {
		return err
	}
	t, err := h.timers.Resume(r.Context(), id, rev)
	if err != nil {
		return unmatched(err, rev)
	}
	h.answerTimer(w, r, http.StatusOK, &t)
	return nil
}

// ifMatch is the revision that the request wants the timer to have, 0 for any.
func ifMatch(r *http.Request) (uint64, error) {
	given := strings.TrimSpace(strings.Join(r.Header.Values("If-Match"), ","))
	if given == "" || given == "*" {
		return 0, nil
	}
	digits, ok := strings.CutPrefix(given, `"`)
	digits, quoted := strings.CutSuffix(digits, `"`)
	rev, err := strconv.ParseUint(digits, 10, 64)
	if !ok || !quoted || err != nil || rev == 0 {
		e := bus.Errorf(bus.FailedPrecondition, `If-Match %.40q: want * or the ETag of an earlier answer, such as "123"`, given)
		e.Status = http.StatusPreconditionFailed
		return 0, e
	}
	return rev, nil
}

// unmatched is the error of a change where the timer has another revision than the request wanted.
func unmatched(err error, rev uint64) error {
	e := bus.AsError(err)
	if rev == 0 || e.Code != bus.Aborted {
		return err
	}
	changed := bus.Wrap(bus.Aborted, e.Message, err)
	changed.Details, changed.Status = e.Details, http.StatusPreconditionFailed
	return changed
}
