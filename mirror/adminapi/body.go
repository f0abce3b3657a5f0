package adminapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/internal/restapi"
)

// readBody reads the whole body, of at most Config.MaxBody bytes.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, problem := httpx.ReadBody(w, r, h.cfg.MaxBody)
	if problem != nil {
		e := bus.Errorf(bus.Code(problem.Code), "%s", problem.Detail)
		e.Status = problem.Status
		return nil, e
	}
	return body, nil
}

// readInput reads the members of the JSON object that a body is. An empty body is an empty object.
func (h *Handler) readInput(w http.ResponseWriter, r *http.Request) (*input, error) {
	body, err := h.readBody(w, r)
	if err != nil {
		return nil, err
	}
	in := &input{}
	if len(bytes.TrimSpace(body)) == 0 {
		return in, nil
	}
	if err := json.Unmarshal(body, &in.members); err != nil {
		e := bus.Errorf(bus.InvalidArgument, "the body is no JSON object: %w", err)
		e.Status = http.StatusBadRequest
		return nil, e
	}
	return in, nil
}

// input is a JSON object that is read member by member, and what is wrong with it.
type input struct {
	restapi.InputError

	members map[string]json.RawMessage
}

// take reads a member into v, and tells whether it is there. What is null is not.
func take[T any](in *input, name, want string, v *T) bool {
	raw, ok := in.members[name]
	delete(in.members, name)
	if !ok || string(raw) == "null" {
		return false
	}
	if err := json.Unmarshal(raw, v); err != nil {
		in.Wrong(name, "want %s", want)
		return false
	}
	return true
}

// skip leaves members alone that are shown and cannot be set.
func (in *input) skip(names ...string) {
	for _, name := range names {
		delete(in.members, name)
	}
}

// end is what was wrong, nil for nothing. Members that nobody has taken are.
func (in *input) end() error {
	for _, name := range sortedKeys(in.members) {
		in.Unknown = true
		in.Wrong(cut(name), "there is no such field")
	}
	return in.Err()
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// cut is a name as it can be shown.
func cut(name string) string { return fmt.Sprintf("%.64s", strings.ToValidUTF8(name, "?")) }

const typeJSON = "application/json"

func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// answer answers with v as JSON.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	indent := ""
	if r.URL.Query().Get("pretty") == "true" {
		indent = "  "
	}
	body, err := encode(v, indent)
	if err != nil {
		h.fail(w, r, bus.Errorf(bus.Internal, "adminapi: encode the answer: %w", err))
		return
	}
	send(w, status, typeJSON, body)
}

func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	head := w.Header()
	head.Set("Content-Type", contentType)
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone
}
