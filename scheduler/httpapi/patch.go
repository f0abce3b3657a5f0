package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// patchTries is how often a patch that names no revision is made anew, when the timer changes meanwhile.
const patchTries = 5

// patch changes a timer by a JSON merge patch (RFC 7396).
func (h *Handler) patch(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	rev, err := ifMatch(r)
	if err != nil {
		return err
	}
	body, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	if err := contentType(r, body, typeMergePatch, typeJSON); err != nil {
		w.Header().Set("Accept-Patch", typeMergePatch)
		return err
	}
	if err := checkJSON(body); err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		t, err := h.timers.Get(r.Context(), id)
		if err != nil {
			return err
		}
		if rev != 0 && t.Revision != rev {
			return unmatched(bus.Errorf(bus.Aborted, "timer %q has the revision %d, not %d", id, t.Revision, rev), rev)
		}
		spec, err := patched(&t.Spec, bytes.TrimSpace(body))
		if err != nil {
			return err
		}
		if t, err = h.timers.Update(r.Context(), id, t.Revision, spec); err == nil {
			h.answerTimer(w, r, http.StatusOK, &t)
			return nil
		}
		if rev != 0 || bus.CodeOf(err) != bus.Aborted || tries == patchTries {
			return unmatched(err, rev)
		}
	}
}

// patched applies a patch to what a client may set of a timer. What the patch does not name stays exactly as it was, the bytes of the payload
// included; a time, and a payload, that it names in one form replaces that in another.
func patched(old *scheduler.Spec, patch []byte) (scheduler.Spec, error) {
	var in input
	if kind(patch) != '{' {
		in.Wrong("", "want an object, got %s", describe(patch))
		return scheduler.Spec{}, in.Err()
	}
	in.spec(patch) // finds what cannot be set, and is of the wrong type
	if err := in.Err(); err != nil {
		return scheduler.Spec{}, err
	}
	named := map[string]byte{} // the kinds of the values
	members(patch, func(name, value []byte) { named[string(name)] = kind(value) })
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return named[name] != 0 })
	}

	shown := showSpec(old)
	payload := has("payload", "payload_text", "payload_base64")
	if payload && !has(payloadForm(old.ContentType, old.Payload)) {
		shown.Payload, shown.PayloadText, shown.PayloadBase64, shown.ContentType = nil, "", "", ""
	}
	if has("after") && named["after"] != 'n' {
		shown.At = time.Time{}
	}
	merged, err := merge(shown, patch)
	if err != nil {
		return scheduler.Spec{}, err
	}
	spec, err := parseSpec(merged)
	if err != nil {
		return scheduler.Spec{}, err
	}
	switch {
	case !payload:
		spec.Payload = old.Payload
		if !has("content_type") {
			spec.ContentType = old.ContentType
		}
	case len(spec.Payload) == 0:
		spec.ContentType = ""
	}
	if old.Repeat != nil && !has("after", "at", "repeat") {
		spec.At = old.At
	}
	return spec, nil
}

// merge is the JSON of old with the patch applied.
func merge(old specJSON, patch []byte) ([]byte, error) {
	body, err := encode(old)
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "httpapi: encode a timer to change it: %w", err)
	}
	var document, change any
	for _, err := range []error{decode(body, &document), decode(patch, &change)} {
		if err != nil {
			return nil, malformed(bus.Errorf(bus.InvalidArgument, "the body is not JSON: %w", err))
		}
	}
	return encode(mergeValue(document, change))
}

// decode keeps numbers as they are written.
func decode(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return dec.Decode(v)
}

// mergeValue is the algorithm of RFC 7396. It changes document.
func mergeValue(document, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := document.(map[string]any)
	if !ok {
		object = make(map[string]any, len(changes))
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
			continue
		}
		object[name] = mergeValue(object[name], value)
	}
	return object
}
