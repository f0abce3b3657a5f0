package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// specJSON is what a client may set of a timer, as it is shown.
type specJSON struct {
	ID            string            `json:"id,omitempty"`
	Key           string            `json:"key,omitempty"`
	At            time.Time         `json:"at,omitzero"`
	Repeat        *repeatJSON       `json:"repeat,omitempty"`
	Target        targetJSON        `json:"target"`
	Payload       json.RawMessage   `json:"payload,omitempty"`
	PayloadText   string            `json:"payload_text,omitempty"`
	PayloadBase64 string            `json:"payload_base64,omitempty"`
	ContentType   string            `json:"content_type,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Retry         retryJSON         `json:"retry,omitzero"`
	Paused        bool              `json:"paused,omitempty"`
}

type targetJSON struct {
	Transport string   `json:"transport,omitempty"`
	URI       string   `json:"uri"`
	Method    string   `json:"method,omitempty"`
	Secret    string   `json:"secret,omitempty"`
	Timeout   duration `json:"timeout,omitzero"`
}

type retryJSON struct {
	MaxAttempts int      `json:"max_attempts,omitempty"`
	First       duration `json:"first,omitzero"`
	Last        duration `json:"last,omitzero"`
	MaxAge      duration `json:"max_age,omitzero"`
}

type repeatJSON struct {
	Every   duration          `json:"every,omitzero"`
	Cron    string            `json:"cron,omitempty"`
	Zone    string            `json:"zone,omitempty"`
	Start   time.Time         `json:"start,omitzero"`
	End     time.Time         `json:"end,omitzero"`
	Max     int64             `json:"max,omitempty"`
	Jitter  duration          `json:"jitter,omitzero"`
	Overlap scheduler.Overlap `json:"overlap,omitempty"`
	Missed  scheduler.Missed  `json:"missed,omitempty"`
	CatchUp int               `json:"catch_up,omitempty"`
	Window  duration          `json:"window,omitzero"`
}

type timerJSON struct {
	specJSON

	State       scheduler.State `json:"state,omitempty"` // neither is there in a dead letter
	Revision    uint64          `json:"revision,omitempty"`
	Created     time.Time       `json:"created"`
	Due         time.Time       `json:"due,omitzero"`
	Occurrence  int64           `json:"occurrence"`
	Attempts    []attemptJSON   `json:"attempts,omitempty"`
	NextAttempt time.Time       `json:"next_attempt,omitzero"`
}

type attemptJSON struct {
	At     time.Time `json:"at"`
	Took   duration  `json:"took"`
	Status int       `json:"status,omitempty"`
	Code   bus.Code  `json:"code,omitempty"`
	Error  string    `json:"error,omitempty"`
}

// showSpec leaves out the time of a timer that recurs: that is in its repeat.
func showSpec(s *scheduler.Spec) specJSON {
	j := specJSON{
		ID: s.ID, Key: s.Key, ContentType: s.ContentType, Headers: s.Header, Labels: s.Labels, Paused: s.Paused,
		Target: targetJSON{s.Target.Transport, s.Target.URI, s.Target.Method, s.Target.Secret, duration(s.Target.Timeout)},
		Retry:  retryJSON{s.Retry.MaxAttempts, duration(s.Retry.First), duration(s.Retry.Last), duration(s.Retry.MaxAge)},
	}
	if r := s.Repeat; r != nil {
		j.Repeat = &repeatJSON{
			duration(r.Every), r.Cron, r.Zone, utc(r.Start), utc(r.End), r.Max, duration(r.Jitter), r.Overlap, r.Missed, r.CatchUp, duration(r.Window),
		}
	} else {
		j.At = utc(s.At)
	}
	switch payloadForm(s.ContentType, s.Payload) {
	case "payload":
		j.Payload = s.Payload
	case "payload_text":
		j.PayloadText = string(s.Payload)
	case "payload_base64":
		j.PayloadBase64 = base64.StdEncoding.EncodeToString(s.Payload)
	}
	return j
}

// payloadForm is the field that shows a payload, empty where there is none.
func payloadForm(contentType string, payload []byte) string {
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case len(payload) == 0:
		return ""
	case (media == typeJSON || strings.HasSuffix(media, "+json")) && utf8.Valid(payload) && json.Valid(payload) && !isNull(payload):
		return "payload"
	case (media == typeForm || strings.HasPrefix(media, "text/")) && utf8.Valid(payload):
		return "payload_text"
	}
	return "payload_base64"
}

// isNull tells null, which as a field would mean that there is no payload.
func isNull(payload []byte) bool { return string(bytes.TrimSpace(payload)) == "null" }

func showTimer(t *scheduler.Timer) timerJSON {
	j := timerJSON{
		specJSON: showSpec(&t.Spec), State: t.State, Revision: t.Revision, Created: utc(t.Created), Due: utc(t.Due), Occurrence: t.Occurrence,
		NextAttempt: utc(t.NextAttempt),
	}
	for _, a := range t.Attempts {
		j.Attempts = append(j.Attempts, attemptJSON{utc(a.At), duration(a.Took), a.Status, a.Code, a.Error})
	}
	return j
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// encode is v as JSON, as its reader would write it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// answer answers with v as JSON.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := encode(v)
	if err != nil {
		h.fail(w, r, bus.Errorf(bus.Internal, "httpapi: encode the answer: %w", err))
		return
	}
	head := w.Header()
	head.Set("Content-Type", typeJSON)
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone
}

// answerTimer answers with a timer and its revision.
func (h *Handler) answerTimer(w http.ResponseWriter, r *http.Request, status int, t *scheduler.Timer) {
	w.Header().Set("ETag", `"`+strconv.FormatUint(t.Revision, 10)+`"`)
	h.answer(w, r, status, showTimer(t))
}
