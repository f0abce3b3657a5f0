package adminapi

import (
	_ "embed" // for the document
	"net/http"

	"github.com/skybus-io/skybus/bus"
)

//go:embed openapi.json
var openAPI []byte

// endpoints are those of the API below /v1/, with the figures.
func (h *Handler) endpoints() []endpoint {
	return []endpoint{
		{http.MethodGet, "/v1/status", h.status, false},
		{http.MethodGet, "/v1/backends", h.listBackends, false},
		{http.MethodGet, "/v1/backends/{name}", h.getBackend, false},
		{http.MethodPut, "/v1/backends/{name}", h.putBackend, false},
		{http.MethodPatch, "/v1/backends/{name}", h.patchBackend, false},
		{http.MethodDelete, "/v1/backends/{name}", h.deleteBackend, false},
		{http.MethodPost, "/v1/backends/{name}/repair", h.repair, false},
		{http.MethodGet, "/v1/writes/{seq}", h.getWrite, false},
		{http.MethodGet, "/v1/parked", h.listParked, true},
		{http.MethodGet, "/v1/parked/{backend}/{seq}", h.getParked, false},
		{http.MethodDelete, "/v1/parked/{backend}/{seq}", h.dropParked, false},
		{http.MethodPost, "/v1/parked/{backend}/{seq}/retry", h.retryParked, true},
		{http.MethodGet, "/v1/diff", h.diff, true},
		{http.MethodPost, "/v1/drain", h.drain, true},
		{http.MethodGet, "/v1/openapi.json", h.describe, false},
		{http.MethodGet, "/metrics", h.figures, false},
	}
}

func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	h.register(mux, h.endpoints(), h.fail, func(w http.ResponseWriter, r *http.Request, allow string) {
		w.Header().Set("Allow", allow)
		e := bus.Errorf(bus.Unimplemented, "method %.20q: want %s", r.Method, allow)
		e.Status = http.StatusMethodNotAllowed
		h.fail(w, r, e)
	})
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, bus.Errorf(bus.NotFound, "there is nothing at this path; /v1/openapi.json says what there is"))
	})
	return mux
}

// describe answers with the OpenAPI document of both APIs.
func (h *Handler) describe(w http.ResponseWriter, _ *http.Request) error {
	send(w, http.StatusOK, typeJSON, openAPI)
	return nil
}
