package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
)

// levelTrace is for what only whoever debugs skybus itself wants to see.
const levelTrace = slog.LevelDebug - 4

// levels in the order the signals step through.
func levels() []slog.Level {
	return []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug, levelTrace}
}

// openLog sets a.log: text on a terminal, JSON to anything else, at --log-level or else at level. Signals change the
// level from then on. stop ends that and closes the file.
func (a *App) openLog(level slog.Level) (stop func(), err error) {
	if a.LogLevel != "" {
		level = parseLevel(a.LogLevel)
	}
	current := &slog.LevelVar{}
	current.Set(level)
	a.level = current
	out, terminal := a.stderr, isTerminal(a.stderr)
	closeFile := func() {}
	if a.LogFile != "" {
		f, err := os.OpenFile(a.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, withHint(fmt.Errorf("log file: %w", err), "--log-file or SKYBUS_LOG_FILE names another file")
		}
		// What is written to a log cannot be reported anywhere else.
		out, terminal, closeFile = f, false, func() { _ = f.Close() }
	}
	a.log = slog.New(newLogHandler(out, terminal, current))
	endSignals := watchLevel(a.log, current)
	return func() {
		endSignals()
		closeFile()
	}, nil
}

func newLogHandler(w io.Writer, text bool, level slog.Leveler) slog.Handler {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: replaceAttr}
	if text {
		return slog.NewTextHandler(redactor{w}, opts)
	}
	return slog.NewJSONHandler(redactor{w}, opts)
}

func parseLevel(name string) slog.Level {
	for _, l := range levels() {
		if strings.EqualFold(levelName(l), name) {
			return l
		}
	}
	return slog.LevelInfo // not reached: the flag takes only names of levels
}

func levelName(l slog.Level) string {
	if l <= levelTrace {
		return "TRACE"
	}
	return l.String()
}

// stepLevel moves level by one: a positive step logs more.
func stepLevel(log *slog.Logger, level *slog.LevelVar, step int) {
	all := levels()
	i := max(slices.Index(all, level.Level()), 0)
	next := all[min(max(i+step, 0), len(all)-1)]
	// Said at a level that is heard before the step or after it.
	say := max(slog.LevelInfo, min(level.Level(), next))
	level.Set(min(next, level.Level()))
	log.Log(context.Background(), say, "log level changed", "log_level", levelName(next))
	level.Set(next)
}

// watchLevel steps level at each signal until stop is called.
func watchLevel(log *slog.Logger, level *slog.LevelVar) (stop func()) {
	more, less, release := levelSignals()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-more:
				stepLevel(log, level, +1)
			case <-less:
				stepLevel(log, level, -1)
			case <-done:
				return
			}
		}
	})
	return func() {
		release()
		close(done)
		wg.Wait()
	}
}
