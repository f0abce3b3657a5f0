// Package adminapi serves what operators of a mirror need over HTTP, in two ways.
//
// /nodes, /list and /info are Spawn's API as its clients know it, with tokens that are asked for everywhere or nowhere. At /v1 is everything a
// mirror can do, in JSON with problem details (RFC 9457) for errors; GET /v1/openapi.json describes both. GET /metrics is for Prometheus.
//
// A node is a [mirror.Backend]: Spawn's clients name it by its host and port, ours by its name.
package adminapi

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
	"github.com/skybus-io/skybus/mirror"
)

// Defaults of a [Config].
const (
	DefaultMaxBody     = 256 << 10
	DefaultTimeout     = 10 * time.Second
	DefaultMaxInFlight = 64
	DefaultDrain       = time.Second
)

// Config adjusts a handler. The zero value works.
type Config struct {
	// Tokens are the bearer tokens that are let in, of 16 to 512 characters, whatever is asked for. Empty means everybody is let in.
	Tokens []string
	// TrustedOrigins are web origins (https://app.example.org) whose pages may change backends. Pages of all other origins than the listener's own
	// are refused by browsers' own word (net/http.CrossOriginProtection); programs are not concerned.
	TrustedOrigins []string
	// MaxBody is how many bytes a request's body may have; more is 413. 0 means 256 KiB.
	MaxBody int64
	// Timeout is how long a request may take once its body is read; one that waits for backends takes as long as it says. 0 means 10 s.
	Timeout time.Duration
	// MaxInFlight is how many requests are worked on at a time; more is 503. 0 means 64.
	MaxInFlight int
	// Drain is how long Serve, once it is stopped, lets what is in flight finish. 0 means 1 s.
	Drain time.Duration
	// TLS is what Serve speaks. Nil means plain HTTP.
	TLS *tls.Config
	// Version and Built are the release that /info tells of.
	Version, Built string
	// Pages serves the paths it has that are not the API's, to who has a token. Nil means that there are none.
	Pages *http.ServeMux
	// Logger hears of faults, not of requests. Nil means discard.
	Logger *slog.Logger
}

// Handler is an http.Handler that shows and changes the backends of a mirror. It is safe for concurrent use.
type Handler struct {
	mirror *mirror.Mirror
	cfg    Config
	log    *slog.Logger
	door   *restapi.Door
	v1     *http.ServeMux
	spawn  *http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// New makes a handler for m, which stays the caller's.
func New(m *mirror.Mirror, cfg Config) (*Handler, error) {
	if cfg.MaxBody < 0 || cfg.Timeout < 0 || cfg.MaxInFlight < 0 || cfg.Drain < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "adminapi: MaxBody, Timeout, MaxInFlight and Drain must not be negative")
	}
	setDefault(&cfg.MaxBody, DefaultMaxBody)
	setDefault(&cfg.Timeout, DefaultTimeout)
	setDefault(&cfg.MaxInFlight, DefaultMaxInFlight)
	setDefault(&cfg.Drain, DefaultDrain)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{mirror: m, cfg: cfg, log: cfg.Logger.With("component", "mirror_admin")}
	var err error
	if h.door, err = restapi.NewDoor(restapi.Config{Tokens: cfg.Tokens, TrustedOrigins: cfg.TrustedOrigins, MaxInFlight: cfg.MaxInFlight, Changes: "backends"}); err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "adminapi: %w", err)
	}
	h.v1, h.spawn = h.routes(), h.spawnRoutes()
	return h, nil
}

func setDefault[T int | int64 | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// Serve answers requests from l until ctx ends. On a loopback address it refuses requests (421) for other hosts than localhost or an IP
// address: web pages of other sites would make them. When ctx has ended it finishes what is in flight, for Config.Drain; then it cuts that off and
// returns an error.
func (h *Handler) Serve(ctx context.Context, l net.Listener) error {
	srv := httpx.Server{Handler: h, Timeout: h.cfg.Timeout, Drain: h.cfg.Drain, TLS: h.cfg.TLS, Logger: h.log}
	if err := srv.Serve(ctx, l); err != nil {
		return fmt.Errorf("adminapi: %w", err)
	}
	return nil
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var answer api = spawnAPI{h}
	if strings.HasPrefix(r.URL.Path, "/v1/") || r.URL.Path == "/metrics" {
		answer = v1{h}
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

// v1 is the API below /v1/, with the figures.
type v1 struct{ *Handler }

func (a v1) serve(w http.ResponseWriter, r *http.Request) { a.v1.ServeHTTP(w, r) }
