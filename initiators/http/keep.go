package http

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/kv"
)

// AnswersBucket is the bucket of answers that are kept: to requests with an Idempotency-Key, by <app>.<env>.once.<entry>.<hash>, and to those that are
// answered later, by <app>.<env>.later.<id>.
const AnswersBucket = "skybus_answers"

// MaxKeptAnswer is the largest answer that can be kept, in bytes of its body.
const MaxKeptAnswer = 512 << 10

const maxKeptValue = MaxKeptAnswer/3*4 + 64<<10 // as JSON has it, with headers

// openAnswers binds to the bucket of answers, and makes it where it does not exist, unless bind.
func openAnswers[T any](ctx context.Context, conn *bus.Conn, bind bool) (*kv.Table[T], error) {
	return kv.Open[T](ctx, conn, AnswersBucket, kv.Config{Bind: bind, MaxValue: maxKeptValue, Description: "skybus: answers of gateways", Logger: conn.Logger()})
}

// keptAnswer is an answer as it is stored.
type keptAnswer struct {
	Status int                 `json:"status"`
	Header map[string][]string `json:"header,omitempty"`
	Body   []byte              `json:"body,omitempty"`
	// Size is the size of a body that was too large to be kept.
	Size int `json:"size,omitempty"`
}

// notKept are headers that belong to one exchange, or to one client.
func notKept(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Content-Length", "Date", "Set-Cookie", "Server-Timing",
		"Retry-After", "Vary", "Www-Authenticate", "Preference-Applied", headerReplayed, headerStored, requestIDHeader:
		return true
	}
	return strings.HasPrefix(name, "Access-Control-")
}

// write answers with what was kept.
func (k *keptAnswer) write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range k.Header {
		h[name] = slices.Clone(values)
	}
	h.Set("Content-Length", strconv.Itoa(len(k.Body)))
	w.WriteHeader(k.Status)
	_, _ = w.Write(k.Body) // the client has gone
}

// detail is what an answer says of an error.
func (k *keptAnswer) detail() string {
	var p httpx.Problem
	if json.Unmarshal(k.Body, &p) == nil && p.Detail != "" {
		return p.Detail
	}
	return string(k.Body)
}

// recorder keeps an answer until it is finished, or has more than max bytes: then it goes on to w as it comes.
type recorder struct {
	w    http.ResponseWriter // nil: nobody waits, and what is too much is dropped
	max  int
	pass func(h http.Header) // is called with the headers before the first byte goes on to w

	base   http.Header // of w, before
	header http.Header
	status int
	body   []byte
	size   int
	passed bool
}

var _ http.ResponseWriter = (*recorder)(nil)

// newRecorder records what is answered to w.
func newRecorder(w http.ResponseWriter, limit int, pass func(h http.Header)) *recorder {
	r := &recorder{w: w, max: limit, pass: pass, header: http.Header{}}
	if w != nil {
		r.base, r.header = w.Header().Clone(), w.Header().Clone()
	}
	return r
}

// Header is http.ResponseWriter's.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader is http.ResponseWriter's. Informational answers are left out.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
}

// Unwrap is for http.ResponseController, which may so move deadlines.
func (r *recorder) Unwrap() http.ResponseWriter { return r.w }

// Flush is http.Flusher's. It does nothing, as an answer goes out as a whole.
func (r *recorder) Flush() {}

// Write is http.ResponseWriter's.
func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.size += len(b)
	switch {
	case r.passed:
		return r.w.Write(b)
	case r.size <= r.max:
		r.body = append(r.body, b...)
		return len(b), nil
	case r.w == nil:
		r.body = nil
		return len(b), nil
	}
	r.passed = true
	r.pass(r.header)
	r.send()
	r.body = nil
	return r.w.Write(b)
}

// finish sends what was not passed on.
func (r *recorder) finish() {
	r.WriteHeader(http.StatusOK)
	if !r.passed {
		r.send()
	}
}

// send sends what there is so far.
func (r *recorder) send() {
	h := r.w.Header()
	maps.DeleteFunc(h, func(name string, _ []string) bool { return r.header[name] == nil })
	maps.Copy(h, r.header)
	r.w.WriteHeader(r.status)
	_, _ = r.w.Write(r.body) // the client has gone
}

// kept is the answer as it is stored.
func (r *recorder) kept() *keptAnswer {
	r.WriteHeader(http.StatusOK)
	k := &keptAnswer{Status: r.status, Header: map[string][]string{}}
	for name, values := range r.header {
		if !notKept(name) && !slices.Equal(values, r.base[name]) {
			k.Header[name] = values
		}
	}
	if r.size > r.max {
		k.Size = r.size
		return k
	}
	k.Body = r.body
	return k
}

// await returns the entry of key once enough says so of it; Deleted is set of one that is not there.
func await[T any](ctx context.Context, t *kv.Table[T], key string, enough func(kv.Entry[T]) bool) (kv.Entry[T], error) {
	present := false
	for e, err := range t.Watch(ctx, key) {
		switch {
		case err != nil:
			return e, err
		case e.Key == "" && present:
			continue
		case e.Key == "":
			e = kv.Entry[T]{Key: key, Deleted: true}
		}
		present = true
		if enough(e) {
			return e, nil
		}
	}
	return kv.Entry[T]{}, context.Cause(ctx)
}

// answerBody is a body as a member of JSON: JSON as it is, text as a string, anything else in base64.
func answerBody(k *keptAnswer) (body any, encoding string) {
	contentType := http.Header(k.Header).Get("Content-Type")
	media, _, _ := strings.Cut(contentType, ";")
	switch {
	case len(k.Body) == 0:
		return nil, ""
	case (media == typeJSON || strings.HasSuffix(media, "+json")) && json.Valid(k.Body):
		return json.RawMessage(k.Body), ""
	case media == typeMessagePack:
		if text, err := transcode(typeMessagePack, typeJSON, k.Body); err == nil {
			return json.RawMessage(text), ""
		}
	case isText(k.Body):
		return string(k.Body), ""
	}
	return k.Body, "base64"
}

// unavailable is the error of a store that cannot be reached now.
func unavailable(what string, err error) error {
	e := bus.AsError(err)
	if slices.Contains([]bus.Code{bus.PermissionDenied, bus.ResourceExhausted, bus.Canceled}, e.Code) {
		out := bus.Wrap(e.Code, what+": "+e.Message, err)
		out.Status = e.Status
		return out
	}
	return bus.Wrap(bus.Unavailable, what+": "+e.Message, err)
}
