// Package httpapi serves timers over HTTP, in two ways.
//
// /timer is Skyring's API as its clients know it: POST, PUT and DELETE with empty answers and the reason of a refusal in the header
// x-skyring-reason. Beside it there are GET /ping, and at /v1/timers everything a scheduler can do, in JSON with problem details (RFC 9457) for
// errors; GET /v1/openapi.json describes both.
//
// An answer that says a timer was created, changed or cancelled is given after that is stored. After 503 nothing was, unless its
// details say that it is uncertain; after 504, or no answer, nobody knows: a creation with an id or a key can be repeated, and is
// answered 409 if it had happened.
package httpapi

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/internal/restapi"
	"github.com/skybus-io/skybus/scheduler"
)

// Defaults of a [Config].
const (
	DefaultMaxBody           = 1 << 20
	DefaultSkyringMaxTimeout = (1<<31 - 1) * time.Millisecond
	DefaultTimeout           = 10 * time.Second
	DefaultMaxInFlight       = 1024
	DefaultDrain             = 10 * time.Second
)

// Config adjusts a handler. The zero value works.
type Config struct {
	// Tokens are the bearer tokens that are let in, of 16 to 512 characters; GET /ping needs none. Empty means everybody is let in.
	Tokens []string
	// TrustedOrigins are web origins (https://app.example.org) whose pages may change timers. Pages of all other origins than the
	// listener's own are refused by browsers' own word (net/http.CrossOriginProtection); programs are not concerned.
	TrustedOrigins []string
	// MaxBody is how many bytes a request's body, or a line of a stream of timers, may have; more is 413. 0 means 1 MiB.
	MaxBody int64
	// SkyringMaxTimeout is the longest timeout that /timer takes. 0 means Skyring's own, 2^31-1 ms or 24.8 days; negative means any.
	SkyringMaxTimeout time.Duration
	// Timeout is how long a request may take once its body is read; a stream of timers may take longer. 0 means 10 s.
	Timeout time.Duration
	// MaxInFlight is how many requests are worked on at a time; more is 503. 0 means 1024.
	MaxInFlight int
	// Drain is how long Serve, once it is stopped, lets what is in flight finish. 0 means 10 s.
	Drain time.Duration
	// TLS is what Serve speaks. Nil means plain HTTP.
	TLS *tls.Config
	// Logger hears of faults, not of requests. Nil means discard.
	Logger *slog.Logger
}

// Handler is an http.Handler that creates, finds and changes timers. It is safe for concurrent use.
type Handler struct {
	timers *scheduler.Scheduler
	cfg    Config
	log    *slog.Logger
	door   *restapi.Door
	v1     *http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// New makes a handler for the timers of s, which stays the caller's. It does not fire them: see [scheduler.Scheduler.Run].
func New(s *scheduler.Scheduler, cfg Config) (*Handler, error) {
	if cfg.MaxBody < 0 || cfg.Timeout < 0 || cfg.MaxInFlight < 0 || cfg.Drain < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "httpapi: MaxBody, Timeout, MaxInFlight and Drain must not be negative")
	}
	setDefault(&cfg.MaxBody, DefaultMaxBody)
	setDefault(&cfg.SkyringMaxTimeout, DefaultSkyringMaxTimeout)
	setDefault(&cfg.Timeout, DefaultTimeout)
	setDefault(&cfg.MaxInFlight, DefaultMaxInFlight)
	setDefault(&cfg.Drain, DefaultDrain)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{timers: s, cfg: cfg, log: cfg.Logger.With("component", "timers")}
	var err error
	if h.door, err = restapi.NewDoor(restapi.Config{Tokens: cfg.Tokens, TrustedOrigins: cfg.TrustedOrigins, MaxInFlight: cfg.MaxInFlight, Changes: "timers"}); err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "httpapi: %w", err)
	}
	h.v1 = h.routes()
	return h, nil
}

func setDefault[T int | int64 | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// Mount adds the handler to a mux that serves more: at /timer, /ping and /v1/timers with what belongs to it. There /timer is matched in
// lower case alone, and /v1/openapi.json is left to who describes all of it: see [Document].
func (h *Handler) Mount(mux *http.ServeMux) {
	for _, pattern := range []string{
		"/timer", "/timer/", "GET /ping", "/v1/timers", "/v1/timers/", "/v1/dead/timers", "/v1/dead/timers/",
	} {
		mux.Handle(pattern, h)
	}
}

// Serve answers requests from l until ctx ends. On a loopback address it refuses requests (421) for other hosts than localhost
// or an IP address: web pages of other sites would make them. When ctx has ended it closes l, answers for a moment what
// still comes on open connections, and finishes what is in flight. After Config.Drain it cuts that off, and returns an
// error.
func (h *Handler) Serve(ctx context.Context, l net.Listener) error {
	srv := httpx.Server{Handler: h, Timeout: h.cfg.Timeout, Drain: h.cfg.Drain, TLS: h.cfg.TLS, Logger: h.log}
	if err := srv.Serve(ctx, l); err != nil {
		return fmt.Errorf("httpapi: %w", err)
	}
	return nil
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	answer := h.skyring(r)
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		answer = v1{h}
	}
	if _, open := answer.(ping); open {
		answer.serve(w, r)
		return
	}
	leave, err := h.door.Enter(w, r)
	if err != nil {
		answer.fail(w, r, err)
		return
	}
	defer leave()
	answer.serve(w, r)
}

// fail answers with a problem.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	restapi.Fail(w, r, h.log, err)
}

// api is one of the two ways to answer.
type api interface {
	serve(w http.ResponseWriter, r *http.Request)
	fail(w http.ResponseWriter, r *http.Request, err error)
}

// v1 is the API below /v1/.
type v1 struct{ *Handler }

func (a v1) serve(w http.ResponseWriter, r *http.Request) { a.v1.ServeHTTP(w, r) }
