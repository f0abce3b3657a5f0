package micro

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/config"
)

// configurationRetry is how often a client looks for a configuration that it may not make.
const configurationRetry = 3 * time.Second

// ownSettings is the live configuration, opened by a client. Where there is none and the client may not make it, the
// environment is all there is until somebody else does.
type ownSettings struct {
	values  atomic.Pointer[config.Values]
	layer   config.Layer // until there are values
	stop    context.CancelFunc
	looking sync.WaitGroup
}

// openSettings fails when the configuration may not be read.
func openSettings(ctx context.Context, conn *bus.Conn, log *slog.Logger) (*ownSettings, error) {
	layers := []config.Layer{config.Environment(nil)}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &ownSettings{layer: layers[0], stop: stop}
	cfg := config.Config{Layers: layers, Logger: log}
	values, err := config.Open(ctx, conn, cfg)
	if bus.CodeOf(err) == bus.PermissionDenied { // maybe only to make it
		cfg.Bind = true
		values, err = config.Open(ctx, conn, cfg)
	}
	switch {
	case err == nil:
		s.values.Store(values)
	case errors.Is(err, kv.ErrNoBucket):
		log.WarnContext(ctx, "there is no configuration, and this user may not make it: it holds as soon as somebody does", "bucket", config.Bucket)
		s.looking.Go(func() { s.look(run, conn, cfg) })
	default:
		stop()
		return nil, fmt.Errorf("client: settings: %w", err)
	}
	return s, nil
}

// look tries until there are values.
func (s *ownSettings) look(ctx context.Context, conn *bus.Conn, cfg config.Config) {
	for backoff.Sleep(ctx, configurationRetry-rand.N(configurationRetry/4)) {
		loading, cancel := context.WithTimeout(ctx, DefaultCallTimeout)
		values, err := config.Open(loading, conn, cfg)
		cancel()
		if err == nil {
			s.values.Store(values)
			return
		}
	}
}

// Setting is that of the configuration, or of the environment until there is one.
func (s *ownSettings) Setting(service, version, key string) (json.RawMessage, bool) {
	if v := s.values.Load(); v != nil {
		return v.Setting(service, version, key)
	}
	return s.layer.Setting(service, version, key)
}

// close ends what follows the configuration. What was known last can still be read.
func (s *ownSettings) close() {
	s.stop()
	s.looking.Wait()
	if v := s.values.Load(); v != nil {
		_ = v.Close() // has no error
	}
}
