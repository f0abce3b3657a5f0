package file_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
)

const patience = 20 * time.Second

// sink is a target that remembers what it took.
type sink struct {
	refuse func(body string) error // nil takes all
	before func(body string)       // called at the begin of each Send

	mu    sync.Mutex
	taken []taken
	tries int
}

type taken struct {
	body, key, contentType string
	values                 map[string]string
}

// Send takes a record.
func (s *sink) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	body := string(req.Body)
	s.mu.Lock()
	s.tries++
	s.mu.Unlock()
	if s.before != nil {
		s.before(body)
	}
	if err := ctx.Err(); err != nil {
		return initiators.Reply{}, err
	}
	if s.refuse != nil {
		if err := s.refuse(body); err != nil {
			return initiators.Reply{}, err
		}
	}
	got := taken{body, req.Key, req.ContentType, map[string]string{}}
	for _, name := range []string{"file", "offset", "number", "line", "record.a", "record.b", "nothing"} {
		if v, ok := req.Values(name); ok {
			got.values[name] = v
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, got)
	return initiators.Reply{}, nil
}

func (s *sink) all() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *sink) bodies() []string {
	var all []string
	for _, t := range s.all() {
		all = append(all, t.body)
	}
	return all
}

func connect(t testing.TB) *bus.Conn {
	t.Helper()
	return connectTo(t, bustest.Server(t))
}

func connectTo(t testing.TB, server *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return conn
}

// quick are settings that make a test quick.
func quick(cfg file.Config) file.Config {
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = 20 * time.Millisecond
	}
	if cfg.Rescan == 0 {
		cfg.Rescan = 50 * time.Millisecond
	}
	if cfg.Lease == 0 {
		cfg.Lease = 2 * time.Second
	}
	if cfg.Checkpoint == 0 {
		cfg.Checkpoint = 5 * time.Millisecond
	}
	cfg.RetryFirst, cfg.RetryLast = time.Millisecond, 20*time.Millisecond
	return cfg
}

// logged has a source log to the test.
func logged(t testing.TB, cfg file.Config) file.Config {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return cfg
}

// running is a source that runs.
type running struct {
	*file.Source

	t     testing.TB
	stop  context.CancelFunc
	ended chan error
}

// run runs a source until the test ends, or stopped is called.
func run(t testing.TB, conn *bus.Conn, target initiators.Target, cfg file.Config) *running {
	t.Helper()
	s, err := file.New(conn, target, logged(t, quick(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{Source: s, t: t, stop: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx) }()
	t.Cleanup(r.stopped)
	return r
}

// stopped stops the source. It may be stopped already.
func (r *running) stopped() {
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.ended <- nil
}

// done runs a source with Config.Once to its end.
func done(t testing.TB, conn *bus.Conn, target initiators.Target, cfg file.Config) *file.Source {
	t.Helper()
	cfg.Once = true
	s, err := file.New(conn, target, logged(t, quick(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("not done after %v: %+v", patience, s.Stats())
	}
	return s
}

// eventually asks again and again until it holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// write writes a file that is there, or puts a new one there in one step: on a busy machine one that is created and written may stand empty for longer than
// the tests' sources take for quiet.
func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	place := path
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		place = filepath.Join(t.TempDir(), "new")
	}
	if err := os.WriteFile(place, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if place == path {
		return
	}
	if err := os.Rename(place, path); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t testing.TB, dir, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func rename(t testing.TB, dir, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		t.Fatal(err)
	}
}

// files are the names of all files below dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, rerr := filepath.Rel(dir, path)
			all, err = append(all, filepath.ToSlash(name)), rerr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// aside finds the refused records of a file and the reasons.
func aside(t testing.TB, dir, stem string) (data string, reasons []file.Reason) {
	t.Helper()
	for _, name := range files(t, dir) {
		if !strings.HasPrefix(name, "failed/"+stem+"-") {
			continue
		}
		text := read(t, dir, name)
		if !strings.HasSuffix(name, ".reasons.ndjson") {
			data += text
			continue
		}
		for line := range strings.Lines(text) {
			var r file.Reason
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v in %q", name, err, line)
			}
			reasons = append(reasons, r)
		}
	}
	return data, reasons
}

// numbered are lines of NDJSON from first to last.
func numbered(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "{\"n\":%d}\n", i)
	}
	return b.String()
}

func numberedBodies(first, last int) []string {
	return strings.Split(strings.TrimSuffix(numbered(first, last), "\n"), "\n")
}

// refuseBad refuses bodies that contain "bad".
func refuseBad(body string) error {
	if strings.Contains(body, "bad") {
		return bus.Errorf(bus.InvalidArgument, "no bad").With("field", "n")
	}
	return nil
}
