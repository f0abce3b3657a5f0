package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	lateTimeout       = 250 * time.Millisecond // for requests that are on their way when a stop begins
	cutOffTimeout     = time.Second            // for handlers to notice that their client was cut off
)

// Serve answers requests from l until ctx ends. On a loopback address it refuses requests (421) for other hosts than localhost
// or an IP address: web pages of other sites would make them. When ctx has ended it closes l, answers for a moment what
// still comes on open connections, and finishes what is in flight. After Config.Drain it cuts that off, and returns an
// error.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	open := newConns()
	var stopping atomic.Bool
	srv := &http.Server{
		Handler: httpx.GuardLoopback(l.Addr(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if stopping.Load() {
				w.Header().Set("Connection", "close") // another request would come too late
			}
			g.ServeHTTP(w, r)
		})),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + g.cfg.Timeout + g.cfg.Drain,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         open.observe,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		stopping.Store(true)
		_ = l.Close() // what it says, Accept says too
		// Once Shutdown has begun, a request that was not read yet is dropped.
		open.wait(lateTimeout)
		open.closeUnused()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.Drain)
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
	err := srv.Serve(l)
	if stop() { // the listener failed by itself
		return fmt.Errorf("gateway: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("gateway: requests were cut off: %w", err)
	}
	return nil
}
