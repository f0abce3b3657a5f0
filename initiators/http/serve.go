package http

import (
	"context"
	"fmt"
	"net"

	"github.com/skybus-io/skybus/internal/httpx"
)

// Serve answers requests from l until ctx ends. On a loopback address it refuses requests (421) for other hosts than localhost
// or an IP address: web pages of other sites would make them. When ctx has ended it closes l, answers for a moment what
// still comes on open connections, and finishes what is in flight. After Config.Drain it cuts that off, and returns an
// error.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	srv := httpx.Server{Handler: g, Timeout: g.cfg.Timeout, Drain: g.cfg.Drain, Logger: g.log}
	if err := srv.Serve(ctx, l); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}
