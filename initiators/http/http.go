// Package http is the initiator for HTTP: a gateway from requests to endpoints, routes, subjects, streams and timers.
//
// What is sent where is said by entries, which are kept by name in the bucket of routes ([Store]) and live in every gateway within
// milliseconds: [Open] makes a gateway that follows them. Beside them POST /<route> runs the route called so with the request's body.
//
// POST /v1/call/<service>/<endpoint> calls an endpoint, of one version or instance where the query or the headers Skybus-Version and
// Skybus-Instance say so; endpoints that are marked [micro.Internal] are not there (404). GET /v1/services lists the others, with their schemas
// and how many instances there are. /v1/openapi.json describes all that is served, and /v1/docs is a page to read and try it.
//
// Bodies are JSON, MessagePack or a form, whose fields become a JSON object; answers are JSON or MessagePack as the client accepts, what
// a template of the entry makes, or an HTML page for who asks for one. Errors are problem details (RFC 9457) or a page, with the status of
// the error's code. What a browser was made to send by the page of another site is refused (403). What became of steps that failed stands
// in the header Step-Errors, also of an answer that is good because they were not required: a JSON array of objects with step, target, code
// and message (route.ParseStepErrors).
//
// # Order
//
// What Config.Mux has a pattern for comes first, then /v1/requests/ (see [Async]), at all listeners, then what else the gateway itself has below /v1/
// unless an entry below /v1/ matches, then the entry whose pattern is the most specific, then routes by their name, then Config.Pages.
//
// # Failure
//
// The gateway keeps no state of requests: run as many as you like. Without NATS it knows the entries as they were. An entry that it
// cannot serve, such as one that conflicts with an older one, is left out and told of ([Gateway.Refused]); the others are served.
package http

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults of a gateway.
const (
	DefaultMaxBody     = 1<<20 - 16<<10 // NATS's default max_payload less room for headers
	DefaultTimeout     = 10 * time.Second
	DefaultMaxInFlight = 1024
	DefaultDrain       = 10 * time.Second
	DefaultMaxConns    = 32 << 10
)

const requestIDHeader = "X-Request-Id"

// Config adjusts a gateway. The zero value works.
type Config struct {
	// MaxBody is how many bytes a request's body may have, where its entry does not say; more is 413. 0 means 1,032,192.
	MaxBody int64
	// Timeout is how long a request may take once its body is read, where its entry does not say. 0 means 10 s.
	Timeout time.Duration
	// MaxInFlight is how many requests are worked on at a time, from before their body is read; more is 503. While there are so many, a request
	// whose body has not come within 2 s makes room for another (408). 0 means 1024, whose bodies are a gigabyte at most.
	MaxInFlight int
	// MaxConns is how many connections each listener has at a time; others wait to be accepted. 0 means 32,768.
	MaxConns int
	// TrustedOrigins are web origins (https://app.example.org) whose pages may post here. Pages of all other origins than
	// the gateway's own are refused by browsers' own word (net/http.CrossOriginProtection); programs are not concerned.
	TrustedOrigins []string
	// Guard finds out who sends requests. Nil takes no credentials: entries that ask for one are refused. It stays the caller's.
	Guard *auth.Guard
	// Policy is what is asked where an entry does not say, for routes and endpoints by their names, and for Mux. Config.Pages is for everybody. Nil asks for a credential, of whatever kind, where there is a
	// Guard, and for nothing where there is none.
	Policy *auth.Policy
	// TrustedProxies are addresses and networks of proxies that tell for whom they ask (X-Forwarded-For). Nil trusts none.
	TrustedProxies []string
	// Limits is about what is counted for the limits of entries.
	Limits limit.Config
	// Rates are those of all that the gateway serves, beside those of entries: also of routes and endpoints by their names, of what tells of them, and of Mux. Requests
	// for nothing, and for Pages, count by their address alone.
	Rates limit.Whole
	// NoRoutes: routes are not reached by their names, only by entries.
	NoRoutes bool
	// Drain is how long Serve, once it is stopped, lets what is in flight finish. 0 means 10 s.
	Drain time.Duration
	// MaxSubscribers is how many clients are answered with events at a time, beside MaxInFlight; more is 503. 0 means 10,000.
	MaxSubscribers int
	// AsyncWork is how many requests are worked on at a time that are answered later, beside MaxInFlight. 0 means 64.
	AsyncWork int
	// Listeners are the names of further listeners, for [Gateway.ServeListener] and the entries that name them. There is nothing but entries.
	Listeners []string
	// Pages serves GET and HEAD of any path that is no route's. What an http.ServeMux has no pattern for is answered as the gateway's other errors are. Nil means one page that tells how to run a route.
	Pages http.Handler
	// Mux is asked first: what it has a pattern for is its own, and passes none of the gateway's checks but Policy, Rates and MaxInFlight. It is counted and logged as the
	// entry "(mux)". Nil means nothing.
	Mux *http.ServeMux
	// Answer is the page that shows a browser what came of its request, executed with an [Answer]. Nil means a plain one.
	Answer *template.Template
	// Call is about the endpoints that are reached by their names, and OpenAPI about the description of what there is.
	Call    CallConfig
	OpenAPI OpenAPIConfig
	// AccessLog logs a line of each request at level info: method, path without query, status, size, duration, who sent it, entry, request
	// id and trace.
	AccessLog bool
	// Logger hears of faults, and of requests with AccessLog. Nil means discard.
	Logger *slog.Logger
}

// Gateway is an http.Handler that sends requests on. It is safe for concurrent use.
type Gateway struct {
	runner  *route.Runner
	sources initiators.Sources
	resolve func(initiators.Spec) (initiators.Target, error) // makes the targets of entries
	cfg     Config
	log     *slog.Logger
	places  *places
	origin  *http.CrossOriginProtection
	limiter *limit.Limiter
	whole   *limit.Entry // nil without Config.Rates
	proxies limit.Proxies
	blind   bool // nobody sends requests: they are explained
	rules   httpx.Rules
	metrics metrics
	byRoute *served // for routes that the path names
	byCall  *served // for endpoints that it names, and for who lists them
	byPage  *served // for the page that shows what there is
	byMux   *served // for what Config.Mux has a pattern for, where there is one
	table   atomic.Pointer[table]
	live    *live     // nil where there are no entries to follow
	hub     *eventHub // nil without a client
	keeper  *keeper   // the same

	services kept // the list of all
	document kept // of OpenAPI
}

var _ http.Handler = (*Gateway)(nil)

// New makes a gateway without entries, for the routes of runner, which stays the caller's.
func New(runner *route.Runner, cfg Config) (*Gateway, error) {
	return newGateway(initiators.Sources{Runner: runner}, cfg)
}

// Open makes a gateway that serves the entries of the namespace of sources.Client, as they are at each moment; ctx bounds the loading.
// Where another gateway's configuration would be needed for an entry, it is refused here ([Gateway.Refused]). The caller closes it.
func Open(ctx context.Context, sources initiators.Sources, cfg Config) (*Gateway, error) {
	if sources.Client == nil || sources.Runner == nil {
		return nil, bus.Errorf(bus.InvalidArgument, "gateway: Sources.Client and Sources.Runner are needed")
	}
	g, err := newGateway(sources, cfg)
	if err != nil {
		return nil, err
	}
	g.hub = newEventHub(sources.Client, g.cfg.MaxSubscribers, g.log)
	g.keeper = newKeeper(g, sources.Client.Conn())
	if g.live, err = g.follow(ctx); err != nil {
		return nil, err
	}
	g.keeper.begin(ctx)
	return g, nil
}

func newGateway(sources initiators.Sources, cfg Config) (*Gateway, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	for _, name := range cfg.Listeners {
		if err := bus.CheckToken("listener", name); err != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "gateway: Listeners: %w", err)
		}
	}
	cfg.setDefaults()
	origin, err := httpx.CrossOrigin(cfg.TrustedOrigins)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "gateway: TrustedOrigins: %w", err)
	}
	g := &Gateway{
		runner:  sources.Runner,
		sources: sources,
		resolve: sources.Target,
		cfg:     cfg,
		log:     cfg.Logger.With("component", "gateway"),
		origin:  origin,
		rules:   httpx.Rules{AbsoluteForm: true, Text: true},
	}
	if g.limiter, err = limit.New(cfg.Limits); err != nil {
		return nil, err
	}
	g.whole = g.limiter.Whole(cfg.Rates)
	if g.proxies, err = limit.ParseProxies("trusted_proxies", cfg.TrustedProxies); err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "gateway: TrustedProxies: %w", err)
	}
	if err := g.makeOwn(); err != nil {
		return nil, err
	}
	g.places = newPlaces(cfg.MaxInFlight)
	g.table.Store(g.compile(nil, nil))
	return g, nil
}

// makeOwn makes what stands in for entries where there is none.
func (g *Gateway) makeOwn() error {
	byRoute, err := g.access("", Access{})
	if err != nil {
		return err
	}
	byCall, err := g.access(callPath, Access{Auth: g.cfg.Call.Auth, Limits: g.cfg.Call.Limits})
	if err != nil {
		return fmt.Errorf("gateway: Call.Auth: %w", err)
	}
	cfg := g.cfg
	g.byRoute = &served{
		access:  byRoute,
		gateway: g, lenient: true, offers: offersOf(nil), timeout: cfg.Timeout, longest: cfg.Timeout, maxBody: cfg.MaxBody, metrics: g.metrics.entry(""),
		find: (*exchange).routeTarget,
	}
	g.byCall, g.byPage = new(*g.byRoute), new(*g.byRoute)
	g.byCall.access, g.byCall.find = byCall, (*exchange).callTarget
	g.byPage.access = access{}
	if cfg.Mux != nil {
		g.byMux = new(*g.byRoute)
		g.byMux.name, g.byMux.metrics = muxName, g.metrics.entry(muxName)
		if p := byRoute.policy; cfg.Guard == nil || p != nil && p.Anonymous {
			g.byMux.policy = nil // it may take credentials of its own
		}
	}
	return nil
}

func (cfg *Config) check() error {
	if err := cfg.Call.Validate(); err != nil {
		return bus.Errorf(bus.InvalidArgument, "gateway: Call.%s", bus.AsError(err).Message)
	}
	if err := cfg.Rates.Validate("Rates."); err != nil {
		return bus.Errorf(bus.InvalidArgument, "gateway: %s", bus.AsError(err).Message)
	}
	if cfg.MaxBody < 0 || cfg.Timeout < 0 || cfg.MaxInFlight < 0 || cfg.Drain < 0 || cfg.MaxConns < 0 || cfg.MaxSubscribers < 0 || cfg.AsyncWork < 0 || cfg.OpenAPI.MaxBytes < 0 {
		return bus.Errorf(bus.InvalidArgument, "gateway: MaxBody, Timeout, MaxInFlight, MaxConns, MaxSubscribers, AsyncWork, Drain and OpenAPI.MaxBytes must not be negative")
	}
	return checkMounted(cfg.OpenAPI.Mounted)
}

func (cfg *Config) setDefaults() {
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
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	cfg.MaxSubscribers, cfg.AsyncWork = cmp.Or(cfg.MaxSubscribers, DefaultEventSubscribers), cmp.Or(cfg.AsyncWork, DefaultAsyncWork)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Pages == nil {
		pages := http.NewServeMux()
		pages.HandleFunc("GET /{$}", welcome)
		cfg.Pages = pages
	}
	if cfg.Answer == nil {
		cfg.Answer = template.Must(template.New("answer").Parse(answerPage))
	}
}

// Close stops following the entries: the gateway serves on by what was known last. What is answered later is left to other gateways, and
// who is answered with events is sent away. Of a gateway by [New], and a second time, it does nothing.
func (g *Gateway) Close() error {
	if g.live != nil {
		g.live.close()
		g.keeper.close()
		g.hub.close()
	}
	return nil
}

// ServeHTTP serves the first listener: Config.Mux, entries, routes by their name and pages.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.cfg.Mux != nil {
		if _, pattern := g.cfg.Mux.Handler(r); pattern != "" {
			g.serveMux(w, r)
			return
		}
	}
	g.serveAt("", w, r)
}

// Handler serves the entries of a further listener. Of a name that is not in Config.Listeners it serves nothing.
func (g *Gateway) Handler(listener string) http.Handler {
	if listener == "" {
		return g
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serveAt(listener, w, r) })
}

// serveAt brings a request to the entry that matches it, or to what comes after.
func (g *Gateway) serveAt(listener string, w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, server: w, gateway: g, request: r, begin: time.Now()}
	defer x.end()
	x.set("X-Content-Type-Options", "nosniff")
	if err := x.arrive(); err != nil {
		g.turnAway(listener, x, r, err)
		return
	}
	if p := g.rules.Check(r); p != nil {
		unmatched{g, listener}.refuse(x, r, p)
		return
	}
	if lower := strings.ToLower(r.Host); lower != r.Host {
		r.Host = lower // as entries have it
	}
	if g.keeper != nil && strings.HasPrefix(r.URL.Path, requestsPath) {
		x.tellLater(r)
		return
	}
	t := g.table.Load()
	if listener == "" && g.serveAPI(t, x, r) {
		return
	}
	mux := t.listeners[listener]
	if mux == nil || r.RequestURI == "*" { // which a mux answers by itself
		unmatched{g, listener}.ServeHTTP(x, r)
		return
	}
	mux.ServeHTTP(x, r)
}

// requestID is the id the client gave, if it can be one, else a new one.
func requestID(r *http.Request) string {
	if v := r.Header[requestIDHeader]; len(v) > 0 && bus.CheckToken("request id", v[0]) == nil {
		return v[0]
	}
	return nuid.Next()
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

// asError gives the status 499 to a request whose client has gone, which its ctx tells: what was cancelled for another reason, such as a connection that was
// closed, may be tried again by a client that waits for an answer.
func asError(ctx context.Context, err error) *bus.Error {
	switch {
	case !errors.Is(err, context.Canceled):
		return bus.AsError(err)
	case ctx.Err() != nil:
		return bus.Wrap(bus.Canceled, "the client has gone", err)
	default:
		return bus.Wrap(bus.Unavailable, "the request was cut off: "+bus.AsError(err).Message, err)
	}
}
