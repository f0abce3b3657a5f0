package http

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const maxLoggedPath = 256

// end counts and logs a request that was answered, and answers one that somebody panicked at. It has to be deferred itself. Where an answer has begun, or was to
// be cut off (http.ErrAbortHandler), the connection breaks.
func (x *exchange) end() {
	p := recover()
	if p == nil {
		x.ended(x.status)
		return
	}
	begun := x.status != 0
	if p != http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http has it
		x.panicked(p)
	}
	x.ended(http.StatusInternalServerError)
	if begun || p == http.ErrAbortHandler { //nolint:errorlint // as above
		panic(http.ErrAbortHandler)
	}
}

// panicked tells the log, and the client if it has heard nothing yet.
func (x *exchange) panicked(p any) {
	name := ""
	if x.entry != nil {
		name = x.entry.name
	}
	x.gateway.log.ErrorContext(x.request.Context(), "a request panicked", "entry", name, "request_id", x.answer.RequestID, "panic", p, "stack", string(debug.Stack()))
	if x.status != 0 {
		return
	}
	x.ResponseWriter = x.server // what compresses has given up
	x.Header().Del("Content-Encoding")
	x.gateway.fail(x, x.request, x.answer, bus.Errorf(bus.Internal, "this request cannot be done; the log of the gateway says why"))
}

// ended counts and logs a request with the status that it was answered with.
func (x *exchange) ended(status int) {
	took := time.Since(x.begin)
	if status == 0 { // nothing was written: what net/http answers then, or nobody heard it
		status = http.StatusOK
		if x.request.Context().Err() != nil {
			status = 499
		}
	}
	if x.entry != nil {
		x.entry.metrics.end(status, took, x.written)
	}
	if x.gateway.cfg.AccessLog {
		x.log(status, took)
	}
}

// log writes the line. The query is left out: it may hold what is nobody's business, as headers and bodies do.
func (x *exchange) log(status int, took time.Duration) {
	r := x.request
	path := r.URL.Path
	if len(path) > maxLoggedPath {
		path = path[:maxLoggedPath]
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", path), slog.Int("status", status), slog.Int64("bytes", x.written),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("remote", x.remote()), slog.String("proto", r.Proto),
	}
	if x.entry != nil {
		attrs = append(attrs, slog.String("entry", x.entry.name), slog.String("request_id", x.answer.RequestID))
	}
	if x.who != nil {
		attrs = append(attrs, slog.String("who", x.who.Key()))
	}
	if id := traceID(x.trace); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	x.gateway.log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}
