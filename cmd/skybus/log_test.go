package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStepLevelIsAlwaysHeard(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	level := &slog.LevelVar{}
	level.Set(slog.LevelError)
	log := slog.New(newLogHandler(&out, false, level))
	for _, step := range []struct {
		by   int
		want slog.Level
	}{
		{-1, slog.LevelError},
		{+1, slog.LevelWarn},
		{+1, slog.LevelInfo},
		{+1, slog.LevelDebug},
		{+1, levelTrace},
		{+1, levelTrace},
		{-1, slog.LevelDebug},
		{-1, slog.LevelInfo},
		{-1, slog.LevelWarn},
		{-1, slog.LevelError},
	} {
		out.Reset()
		stepLevel(log, level, step.by)
		if level.Level() != step.want {
			t.Errorf("level is %v, want %v", level.Level(), step.want)
		}
		if want := `"log_level":"` + levelName(step.want) + `"`; !strings.Contains(out.String(), want) {
			t.Errorf("logged %q, want %s in it", out.String(), want)
		}
	}
}

func TestLogFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for _, level := range []string{"", "trace"} { // the second appends
		app, stderr := newApp(formatTable)
		app.LogFile, app.LogLevel = path, level
		stop, err := app.openLog(slog.LevelWarn)
		if err != nil {
			t.Fatal(err)
		}
		app.log.Info("unheard at first")
		app.log.Warn("heard")
		app.log.Log(t.Context(), levelTrace, "finest")
		stop()
		if stderr.String() != "" {
			t.Errorf("stderr has %q", stderr)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{`"msg":"heard"`: 2, `"msg":"unheard at first"`: 1, `"level":"TRACE"`: 1} {
		if got := strings.Count(string(data), text); got != want {
			t.Errorf("%s is in the log %d times, want %d:\n%s", text, got, want, data)
		}
	}
}
