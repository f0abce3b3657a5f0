package file_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/skybus-io/skybus/initiators/file"
)

// change makes ten records of files: it renames one, then writes to one, if it is said which.
type change struct{ from, to, written, added string }

func (c change) do(t testing.TB, dir string, first int) {
	t.Helper()
	if c.from != "" {
		rename(t, dir, c.from, c.to)
	}
	if c.written != "" {
		write(t, dir, c.written, numbered(first, first+9))
	}
	if c.added != "" {
		appendTo(t, dir, c.added, numbered(first, first+9))
	}
}

// TestNotified hears of changes from the system: nothing is looked at by itself for an hour.
func TestNotified(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg     file.Config
		changes []change
	}{
		"directory": {
			file.Config{After: file.Leave, Recursive: true},
			[]change{{written: "a"}, {written: "b"}, {added: "a"}, {written: "sub/deep/c"}, {added: "sub/deep/c"}, {from: "sub", to: "other", written: "other/d"}},
		},
		"moved":    {file.Config{}, []change{{written: "a"}, {from: "done/a", to: "a"}}},
		"followed": {file.Config{Follow: "log"}, []change{{written: "log"}, {added: "log"}, {from: "log", to: "log.1", written: "log"}, {added: "log"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s, cfg := t.TempDir(), &sink{}, tt.cfg
			cfg.Name, cfg.Format, cfg.Rescan = name, file.NDJSON, time.Hour
			if cfg.Follow == "" {
				cfg.Dir = dir
			} else {
				cfg.Follow = filepath.Join(dir, cfg.Follow)
			}
			r := run(t, connect(t), s, cfg)
			eventually(t, "it works", func() bool { return r.Stats().Active })
			for i, c := range tt.changes {
				c.do(t, dir, 10*i)
				eventually(t, "what came is done", func() bool { return len(s.all()) == 10*(i+1) && r.Stats().Unfinished == 0 })
			}
		})
	}
}
