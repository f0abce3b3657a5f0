package embed_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/embed"
)

func TestRestartKeepsStream(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "dir")
	for _, sync := range []string{"", "always", "1s"} {
		s := start(t, embed.Config{Dir: dir, Sync: sync})
		js := newJetStream(t, connect(t, s))
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", History: 5})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		h, err := kv.History(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"": 1, "always": 2, "1s": 3}[sync]; len(h) != want {
			t.Errorf("sync %q: %d values, want %d", sync, len(h), want)
		}
		if err := s.Ready(); err != nil {
			t.Error(err)
		}
		if s.Dir() != dir {
			t.Errorf("dir %q, want %q", s.Dir(), dir)
		}
		closeServer(t, s)
	}
}

func TestNameIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, embed.Config{Dir: dir})
	name := s.Name()
	closeServer(t, s)
	if name == "" || strings.Contains(name, " ") {
		t.Errorf("name %q", name)
	}
	s = start(t, embed.Config{Dir: dir})
	if got := s.Name(); got != name {
		t.Errorf("name after restart %q, want %q", got, name)
	}
	closeServer(t, s)
	s = start(t, embed.Config{Dir: dir, Name: "given"})
	if got := s.Name(); got != "given" {
		t.Errorf("name %q, want given", got)
	}
	closeServer(t, s)

	if err := os.WriteFile(filepath.Join(dir, "server-name"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, embed.Config{Dir: dir}, "holds no server name")
}

func TestAddrInUse(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().String()
	dir := t.TempDir()

	for name, cfg := range map[string]embed.Config{
		"clients": {Listen: addr},
		"cluster": {Listen: ":0", Cluster: "c", ClusterListen: addr},
	} {
		cfg.Dir = dir
		_, err := embed.Start(t.Context(), cfg)
		if !errors.Is(err, embed.ErrAddrInUse) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v, want %v with %s", name, err, embed.ErrAddrInUse, addr)
		}
	}
	// What failed must not keep the directory.
	closeServer(t, start(t, embed.Config{Dir: dir}))
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  embed.Config
		want string
	}{
		"no dir":               {embed.Config{}, "no directory"},
		"sync word":            {embed.Config{Dir: "x", Sync: "never"}, `sync "never"`},
		"sync zero":            {embed.Config{Dir: "x", Sync: "0s"}, `sync "0s"`},
		"sync negative":        {embed.Config{Dir: "x", Sync: "-1s"}, `sync "-1s"`},
		"listen without port":  {embed.Config{Dir: "x", Listen: "127.0.0.1"}, `listen: "127.0.0.1"`},
		"listen bad port":      {embed.Config{Dir: "x", Listen: ":65536"}, `":65536"`},
		"listen service name":  {embed.Config{Dir: "x", Listen: ":nats"}, `":nats"`},
		"cluster listen":       {embed.Config{Dir: "x", Cluster: "c", ClusterListen: "y"}, `cluster listen: "y"`},
		"listen, no cluster":   {embed.Config{Dir: "x", ClusterListen: ":0"}, "without a cluster"},
		"routes, no cluster":   {embed.Config{Dir: "x", Routes: []string{"nats://a:1"}}, "without a cluster"},
		"route scheme":         {embed.Config{Dir: "x", Cluster: "c", Routes: []string{"http://a:1"}}, `route "http://a:1"`},
		"route empty":          {embed.Config{Dir: "x", Cluster: "c", Routes: []string{""}}, `route ""`},
		"name with space":      {embed.Config{Dir: "x", Name: "a b"}, `name "a b"`},
		"cluster with space":   {embed.Config{Dir: "x", Cluster: "a b"}, `cluster "a b"`},
		"negative max store":   {embed.Config{Dir: "x", MaxStore: -1}, "max store -1"},
		"negative max payload": {embed.Config{Dir: "x", MaxPayload: -1}, "max payload -1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, c.cfg, c.want)
		})
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a refused configuration made a directory")
	}
}

// TestStartReportsTheServersReason has a file where the server wants a directory: it
// tells so in its log only.
func TestStartReportsTheServersReason(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blocker := filepath.Join(dir, "jetstream")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, embed.Config{Dir: dir, Listen: ":0"}, "JetStream")
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	closeServer(t, start(t, embed.Config{Dir: dir}))
}

func TestStartWithEndedContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir(), Listen: ":0"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v, want %v", s, err, context.Canceled)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := start(t, embed.Config{Dir: t.TempDir(), MaxPayload: 1000, MaxStore: 5000})
	nc := connect(t, s)
	if got := nc.MaxPayload(); got != 1000 {
		t.Errorf("max payload %d, want 1000", got)
	}
	_, err := newJetStream(t, nc).CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", MaxBytes: 6000})
	if e, ok := errors.AsType[*jetstream.APIError](err); !ok || e.ErrorCode != 10047 {
		t.Errorf("bucket larger than the store: %v", err)
	}
}

func TestInProcessConn(t *testing.T) {
	t.Parallel()
	s := start(t, embed.Config{Dir: t.TempDir()})
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Flush(); err != nil {
		t.Error(err)
	}
	closeServer(t, s)
	if c, err := s.InProcessConn(); err == nil {
		t.Errorf("connection after close: %v", c)
	}
	if err := s.Ready(); err == nil {
		t.Error("ready after close")
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	var out buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := start(t, embed.Config{Dir: t.TempDir(), Logger: log})
	closeServer(t, s)
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "level=DEBUG") || !strings.Contains(line, "component=nats-server") {
			t.Errorf("line of a quiet life: %s", line)
		}
	}
	if !strings.Contains(out.String(), `line="Server is ready"`) {
		t.Errorf("the server's notices are missing:\n%s", out.String())
	}
}

func start(t *testing.T, cfg embed.Config) *embed.Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = ":0"
	}
	s, err := embed.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func wantError(t *testing.T, cfg embed.Config, want string) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = ":0"
	}
	s, err := embed.Start(t.Context(), cfg)
	if err == nil {
		_ = s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

func closeServer(t *testing.T, s *embed.Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, s *embed.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func newJetStream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
