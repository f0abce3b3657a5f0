package main

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
)

const (
	adminCheckTimeout = 2 * time.Second
	adminStopTimeout  = 500 * time.Millisecond
	adminHeaderBytes  = 16 << 10
)

// adminConfig says where the admin listener is and what it asks.
type adminConfig struct {
	// Addr is host:port. Port 0 picks a free one; empty means 127.0.0.1:8081.
	Addr string
	// Ready are asked at each /readyz, all at the same time, each within two seconds. By name; nil means always ready.
	Ready map[string]func(context.Context) error
	// Logger hears of handlers that failed. Nil means discard.
	Logger *slog.Logger
}

// admin is the HTTP listener for operators: /healthz, /readyz, /debug/vars and /debug/pprof/. It asks nobody who they
// are.
type admin struct {
	listener net.Listener
	mux      *http.ServeMux
	server   *http.Server
}

// newAdmin listens, so that a taken port is known at once. Until Run is called, nothing is answered.
func newAdmin(ctx context.Context, cfg adminConfig) (*admin, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:8081"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := listen(ctx, "admin", "--admin", cfg.Addr)
	if err != nil {
		return nil, err
	}
	a := &admin{listener: l, mux: adminPages(cfg.Ready)}
	a.server = &http.Server{
		Handler:           httpx.GuardLoopback(l.Addr(), a.mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // pprof makes it longer for as long as it was asked to measure
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    adminHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.With("component", "admin").Handler(), slog.LevelDebug),
	}
	a.mux.HandleFunc("GET /{$}", serveIndex)
	return a, nil
}

// adminPages are the pages without the index.
func adminPages(ready map[string]func(context.Context) error) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { serveReady(w, r, ready) })
	mux.HandleFunc("GET /debug/vars", serveVars)
	// Not /debug/pprof/cmdline: arguments may be secrets.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// URL is http://host:port.
func (a *admin) URL() string { return httpURL(a.listener) }

// Handle adds a page, before Run.
func (a *admin) Handle(pattern string, h http.Handler) { a.mux.Handle(pattern, h) }

// Run answers until ctx ends, and gives what is being answered half a second more. It runs once.
func (a *admin) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), adminStopTimeout)
		defer done()
		if a.server.Shutdown(stop) != nil {
			_ = a.server.Close() // whoever is still being answered has had their time
		}
	})
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// Close frees the port of an admin that is not to be run.
func (a *admin) Close() error { return a.server.Close() }

func serveIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, "<!doctype html><title>skybus admin</title><h1>skybus admin</h1><ul>")
	for _, path := range []string{"/healthz", "/readyz", "/debug/vars", "/debug/pprof/"} {
		fmt.Fprintf(w, `<li><a href="%s">%s</a>`, path, path)
	}
	fmt.Fprintln(w, "</ul>")
}

func serveReady(w http.ResponseWriter, r *http.Request, ready map[string]func(context.Context) error) {
	ctx, cancel := context.WithTimeout(r.Context(), adminCheckTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []string
	for name, check := range ready {
		wg.Go(func() {
			if err := check(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, name+": "+message(err))
			}
		})
	}
	wg.Wait()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(failed) > 0 {
		slices.Sort(failed)
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, strings.Join(failed, "\n"))
		return
	}
	fmt.Fprintln(w, "ready")
}

// serveVars is expvar's page without the command line, which may hold secrets.
func serveVars(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprint(w, "{")
	sep := "\n"
	expvar.Do(func(kv expvar.KeyValue) {
		if kv.Key == "cmdline" {
			return
		}
		fmt.Fprintf(w, "%s%q: %s", sep, kv.Key, kv.Value)
		sep = ",\n"
	})
	fmt.Fprint(w, "\n}\n")
}
