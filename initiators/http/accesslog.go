package http

import (
	"log/slog"
	"net/http"
	"time"
)

const maxLoggedPath = 256

// end counts and logs a request that was answered.
func (x *exchange) end() {
	took := time.Since(x.begin)
	status := x.status
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
