package embed

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// natsLog passes the server's log on. Until the server runs, a fatal line is not
// logged but kept for the error of Start.
type natsLog struct {
	log *slog.Logger

	mu    sync.Mutex
	runs  bool
	fatal error
}

var _ server.Logger = (*natsLog)(nil)

func newLog(l *slog.Logger) *natsLog {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &natsLog{log: l.With("component", "nats-server")}
}

// startError returns what kept the server from starting, or nil.
func (l *natsLog) startError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *natsLog) running() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = true
}

// keepFatal reports whether it took the line.
func (l *natsLog) keepFatal(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.runs {
		return false
	}
	if l.fatal == nil {
		l.fatal = fmt.Errorf("nats-server: %s", line)
	}
	return true
}

func (l *natsLog) write(level slog.Level, format string, args []any) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "server log", "line", fmt.Sprintf(format, args...))
	}
}

func (l *natsLog) Noticef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
func (l *natsLog) Warnf(format string, args ...any)   { l.write(slog.LevelWarn, format, args) }
func (l *natsLog) Errorf(format string, args ...any)  { l.write(slog.LevelError, format, args) }
func (l *natsLog) Debugf(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l *natsLog) Tracef(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }

func (l *natsLog) Fatalf(format string, args ...any) {
	if !l.keepFatal(fmt.Sprintf(format, args...)) {
		l.write(slog.LevelError, format, args)
	}
}
