package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of every listener.
const (
	ReadHeaderTimeout = 5 * time.Second
	ReadTimeout       = 30 * time.Second
	IdleTimeout       = 60 * time.Second
	MaxHeaderBytes    = 16 << 10

	lateTimeout   = 250 * time.Millisecond // for requests that are on their way when a stop begins
	cutOffTimeout = time.Second            // for handlers to notice that their client was cut off
)

// Server answers requests from a listener with the limits above.
type Server struct {
	Handler http.Handler
	// Timeout is how long the handler may take once it has the request. Answers that take longer move their own deadlines
	// (http.ResponseController).
	Timeout time.Duration
	// Drain is how long requests in flight may go on after the stop.
	Drain time.Duration
	// Hosts are let in on a loopback address besides this machine's own names, in lower case and without ports (GuardLoopback).
	Hosts []string
	// MaxConns is how many connections there are at a time; others wait to be accepted. 0 means any number.
	MaxConns int
	// MaxHeaderBytes is how many bytes the head of a request may have, which the constant of that name says where it is less.
	MaxHeaderBytes int
	// TLS, where it is not nil, is what the listener speaks.
	TLS    *tls.Config
	Logger *slog.Logger
}

type stoppingKey struct{}

// Stopping is closed when the server that the request came through begins to stop: answers without an end must end then. It is
// nil, which is never ready, for requests of other servers than [Server].
func Stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stoppingKey{}).(chan struct{})
	return c
}

// Serve answers requests from l until ctx ends. On a loopback address it refuses those for other hosts (GuardLoopback). When ctx has
// ended it closes l, answers for a moment what still comes on open connections, and finishes what is in flight. After Drain it
// cuts that off, and returns an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.MaxConns > 0 {
		l = newLimitListener(l, s.MaxConns)
	}
	open := newConns()
	stopping := make(chan struct{})
	srv := s.server(ctx, l, open, stopping)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		close(stopping)
		_ = l.Close() // what it says, Accept says too
		// Once Shutdown has begun, a request that was not read yet is dropped.
		open.wait(lateTimeout)
		open.closeUnused()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Drain)
		defer cancel()
		err := srv.Shutdown(drain)
		if errors.Is(err, net.ErrClosed) {
			err = nil // the listener, which was closed above
		}
		if err != nil {
			_ = srv.Close()
			open.wait(cutOffTimeout)
		}
		stopped <- err
	})
	var err error
	if s.TLS != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if stop() { // the listener failed by itself
		return err
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("requests were cut off: %w", err)
	}
	return nil
}

func (s *Server) server(ctx context.Context, l net.Listener, open *conns, stopping chan struct{}) *http.Server {
	base := context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, stopping)
	return &http.Server{
		Handler: GuardLoopback(l.Addr(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-stopping:
				if r.ProtoMajor == 1 {
					w.Header().Set("Connection", "close") // another request would come too late
				}
			default:
			}
			s.Handler.ServeHTTP(w, r)
		}), s.Hosts...),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: ReadHeaderTimeout,
		ReadTimeout:       ReadTimeout,
		WriteTimeout:      ReadTimeout + s.Timeout + s.Drain,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    max(MaxHeaderBytes, s.MaxHeaderBytes),
		TLSConfig:         s.TLS.Clone(), // nil stays nil
		ConnState:         open.observe,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
}
