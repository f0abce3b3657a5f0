// Package http is the initiator for HTTP: a gateway from requests with a body to routes.
//
// POST /<route> runs the route called so with the request's body. Bodies are JSON, MessagePack or a form, whose fields
// become a JSON object; answers are in the codec of the request, or an HTML page for who asks for one. Errors are problem
// details (RFC 9457) or a page, with the status of the error's code. What a browser was made to send by the page of another
// site is refused (403). What became of steps that failed stands in the header Step-Errors, also of an answer that is good
// because they were not required: a JSON array of objects with step, target, code and message (route.ParseStepErrors).
//
// The gateway keeps no state: run as many as you like.
package http

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults of a gateway.
const (
	DefaultMaxBody     = 1<<20 - 16<<10 // NATS's default max_payload less room for headers
	DefaultTimeout     = 10 * time.Second
	DefaultMaxInFlight = 1024
	DefaultDrain       = 10 * time.Second
)

const requestIDHeader = "X-Request-Id"

// Config adjusts a gateway. The zero value works.
type Config struct {
	// MaxBody is how many bytes a request's body may have; more is 413. 0 means 1,032,192.
	MaxBody int64
	// Timeout is how long a request may take once its body is read. 0 means 10 s.
	Timeout time.Duration
	// MaxInFlight is how many requests are worked on at a time; more is 503. 0 means 1024, whose
	// bodies are a gigabyte at most.
	MaxInFlight int
	// TrustedOrigins are web origins (https://app.example.org) whose pages may post here. Pages of all other origins than
	// the gateway's own are refused by browsers' own word (net/http.CrossOriginProtection); programs are not concerned.
	TrustedOrigins []string
	// Drain is how long Serve, once it is stopped, lets what is in flight finish. 0 means 10 s.
	Drain time.Duration
	// Pages serves GET and HEAD of any path that is no route's. Nil means one page that tells how to run a route.
	Pages http.Handler
	// Mux is asked first: what it has a pattern for is its own, and passes none of the gateway's checks. Nil means nothing.
	Mux *http.ServeMux
	// Answer is the page that shows a browser what came of its request, executed with an [Answer]. Nil means a plain one.
	Answer *template.Template
	// Logger hears of faults, not of requests. Nil means discard.
	Logger *slog.Logger
}

// Gateway is an http.Handler that runs routes. It is safe for concurrent use.
type Gateway struct {
	runner *route.Runner
	cfg    Config
	log    *slog.Logger
	places chan struct{}
	origin *http.CrossOriginProtection
}

var _ http.Handler = (*Gateway)(nil)

// New makes a gateway for the routes of runner, which stays the caller's.
func New(runner *route.Runner, cfg Config) (*Gateway, error) {
	if cfg.MaxBody < 0 || cfg.Timeout < 0 || cfg.MaxInFlight < 0 || cfg.Drain < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "gateway: MaxBody, Timeout, MaxInFlight and Drain must not be negative")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Pages == nil {
		cfg.Pages = http.HandlerFunc(welcome)
	}
	if cfg.Answer == nil {
		cfg.Answer = template.Must(template.New("answer").Parse(answerPage))
	}
	origin, err := httpx.CrossOrigin(cfg.TrustedOrigins)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "gateway: TrustedOrigins: %w", err)
	}
	return &Gateway{
		runner: runner,
		cfg:    cfg,
		log:    cfg.Logger.With("component", "gateway"),
		places: make(chan struct{}, cfg.MaxInFlight),
		origin: origin,
	}, nil
}

// ServeHTTP runs the route that the path names, unless Config.Mux has something there.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.cfg.Mux != nil {
		if _, pattern := g.cfg.Mux.Handler(r); pattern != "" {
			g.cfg.Mux.ServeHTTP(w, r) // which sets the values of the path
			return
		}
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if name, err := routeName(r); err == nil {
			if _, ok := g.runner.Route(name); ok {
				g.refuseMethod(w, r, "POST")
				return
			}
		}
		g.cfg.Pages.ServeHTTP(w, r)
		return
	case http.MethodPost:
	default:
		g.refuseMethod(w, r, "GET, HEAD, POST")
		return
	}
	answer := Answer{RequestID: requestID(r)}
	h.Set(requestIDHeader, answer.RequestID)
	select {
	case g.places <- struct{}{}:
		defer func() { <-g.places }()
	default:
		g.fail(w, r, answer, bus.Errorf(bus.Unavailable, "this gateway works on %d requests already", g.cfg.MaxInFlight))
		return
	}
	g.run(w, r, answer)
}

func (g *Gateway) run(w http.ResponseWriter, r *http.Request, answer Answer) {
	if err := g.origin.Check(r); err != nil {
		g.fail(w, r, answer, bus.Wrap(bus.PermissionDenied, "a page of another origin may not post here (TrustedOrigins)", err))
		return
	}
	name, err := routeName(r)
	if err != nil {
		g.fail(w, r, answer, err)
		return
	}
	answer.Route = name
	req, err := g.read(w, r)
	if err != nil {
		g.fail(w, r, answer, err)
		return
	}
	req.ID = answer.RequestID
	answer.Request = string(req.Body)
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.Timeout)
	defer cancel()
	reply, err := initiators.Route(g.runner, name).Send(ctx, req)
	answer.Hops = reply.Hops
	if failed := route.FormatStepErrors(route.StepErrors(reply.Hops)); failed != "" {
		w.Header().Set(route.HeaderStepErrors, failed)
	}
	if err != nil {
		g.fail(w, r, answer, err)
		return
	}
	g.answer(w, r, answer, reply)
}

func (g *Gateway) refuseMethod(w http.ResponseWriter, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	e := bus.Errorf(bus.Unimplemented, "method %.20q: want POST /<route> with a body", r.Method)
	e.Status = http.StatusMethodNotAllowed
	g.fail(w, r, Answer{}, e)
}

// requestID is the id the client gave, if it can be one, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if bus.CheckToken("request id", id) != nil {
		return nuid.Next()
	}
	return id
}

// routeName is the path, which must be one token.
func routeName(r *http.Request) (string, error) {
	path := r.URL.EscapedPath()
	if len(path) < 2 || path[0] != '/' {
		return "", bus.Errorf(bus.NotFound, "no route in the path: want POST /<route>")
	}
	if err := bus.CheckToken("route", path[1:]); err != nil {
		return "", err
	}
	return path[1:], nil
}

// asError gives the status 504 to a request whose time was up, and 499 to one whose client has gone.
func asError(err error) *bus.Error {
	if errors.Is(err, context.Canceled) {
		return bus.Wrap(bus.Canceled, "the client has gone", err)
	}
	return bus.AsError(err)
}
