package http

import (
	"context"
	"log/slog"
	"time"
)

// laterLull is a time in which requests that are answered later wait. That it began is told once, and once that it is over.
type laterLull struct {
	log   *slog.Logger
	since time.Time // zero for none
}

// waits notes why they wait.
func (l *laterLull) waits(ctx context.Context, err error) {
	level := slog.LevelDebug
	if l.since.IsZero() {
		l.since, level = time.Now(), slog.LevelWarn
	}
	l.log.Log(ctx, level, "requests that are answered later are waiting", "error", err)
}

// goesOn notes that they are worked on.
func (l *laterLull) goesOn(ctx context.Context) {
	if l.since.IsZero() {
		return
	}
	l.log.InfoContext(ctx, "requests that are answered later go on", "waited", time.Since(l.since).Round(time.Millisecond).String())
	l.since = time.Time{}
}
