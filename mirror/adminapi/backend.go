package adminapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// status shows the mirror, and how its backends stand.
func (h *Handler) status(w http.ResponseWriter, r *http.Request) error {
	s, err := h.mirror.Status(r.Context())
	if err != nil {
		return err
	}
	h.answer(w, r, http.StatusOK, s)
	return nil
}

func (h *Handler) listBackends(w http.ResponseWriter, r *http.Request) error {
	h.answer(w, r, http.StatusOK, struct {
		Backends []mirror.Condition `json:"backends"`
	}{h.mirror.Conditions()})
	return nil
}

func (h *Handler) getBackend(w http.ResponseWriter, r *http.Request) error {
	return h.showBackend(w, r, http.StatusOK, r.PathValue("name"))
}

func (h *Handler) showBackend(w http.ResponseWriter, r *http.Request, status int, name string) error {
	all := h.mirror.Conditions()
	i := slices.IndexFunc(all, func(c mirror.Condition) bool { return c.Name == name })
	if i < 0 {
		return bus.Errorf(bus.NotFound, "there is no backend %.80q", name)
	}
	h.answer(w, r, status, all[i])
	return nil
}

// putBackend adds a backend, or makes one that is there as the body says: what is not in it is as for a new one.
func (h *Handler) putBackend(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	in, err := h.readInput(w, r)
	if err != nil {
		return err
	}
	_, err = h.mirror.Get(r.Context(), name)
	status := http.StatusOK
	if bus.CodeOf(err) == bus.NotFound {
		status, err = http.StatusCreated, nil
	}
	if err != nil {
		return err
	}
	b, opts, err := readBackend(in, mirror.Backend{Name: name, Active: true})
	if err != nil {
		return err
	}
	if b, err = h.mirror.Set(r.Context(), b, opts...); err != nil {
		return err
	}
	if status == http.StatusCreated {
		w.Header().Set("Location", "/v1/backends/"+b.Name)
	}
	return h.showBackend(w, r, status, b.Name)
}

// patchBackend changes what is in the body.
func (h *Handler) patchBackend(w http.ResponseWriter, r *http.Request) error {
	in, err := h.readInput(w, r)
	if err != nil {
		return err
	}
	b, err := h.mirror.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	b, opts, err := readBackend(in, b)
	if err != nil {
		return err
	}
	if b, err = h.mirror.Set(r.Context(), b, opts...); err != nil {
		return err
	}
	return h.showBackend(w, r, http.StatusOK, b.Name)
}

// readBackend lays what a client says over b.
func readBackend(in *input, b mirror.Backend) (mirror.Backend, []mirror.SetOption, error) {
	name := b.Name
	if take(in, "name", "a string", &name) && name != b.Name {
		in.Wrong("name", "it is %q in the path; a backend keeps its name for life", b.Name)
	}
	take(in, "url", "a string", &b.URL)
	take(in, "priority", "a whole number", &b.Priority)
	take(in, "active", "true or false", &b.Active)
	take(in, "maintenance", "true or false", &b.Maintenance)
	var opts []mirror.SetOption
	var from json.RawMessage
	if take(in, "from", "now, or the number of a write", &from) && string(from) != `"now"` {
		seq, err := strconv.ParseUint(string(from), 10, 64)
		if err != nil || seq == 0 {
			in.Wrong("from", `want "now", or the number of a write`)
		}
		opts = append(opts, mirror.From(seq))
	}
	in.skip("state", "applied", "read", "waiting", "bytes", "lag_ms")
	return b, opts, in.end()
}

func (h *Handler) deleteBackend(w http.ResponseWriter, r *http.Request) error {
	if err := h.mirror.Delete(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
