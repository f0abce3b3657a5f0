package bustest_test

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestRestartKeepsFileStreams(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]bustest.Option{"in process": nil, "tcp": {bustest.TCP()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t, opts...)
			nc := s.Connect(t)
			js := newJetStream(t, nc)
			kv := newBucket(t, js, jetstream.KeyValueConfig{Bucket: "file"})
			newBucket(t, js, jetstream.KeyValueConfig{Bucket: "memory", Storage: jetstream.MemoryStorage})
			if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
				t.Fatal(err)
			}
			url, old := s.URL(), s.Server()

			s.Restart(t)

			if s.URL() != url {
				t.Errorf("URL after restart %q, before %q", s.URL(), url)
			}
			if s.Server() == old {
				t.Error("restart left the old server in place")
			}
			eventually(t, func() bool { return nc.IsConnected() })
			e, err := kv.Get(t.Context(), "k")
			if err != nil || string(e.Value()) != "v" {
				t.Errorf("key after restart: %v, %v", e, err)
			}
			if _, err := js.KeyValue(t.Context(), "memory"); !errors.Is(err, jetstream.ErrBucketNotFound) {
				t.Errorf("memory bucket after restart: %v, want %v", err, jetstream.ErrBucketNotFound)
			}
		})
	}
}

func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Memory())
	nc := s.Connect(t)
	js := newJetStream(t, nc)
	newBucket(t, js, jetstream.KeyValueConfig{Bucket: "file"})

	s.Restart(t)

	eventually(t, func() bool { return nc.IsConnected() })
	if _, err := js.KeyValue(t.Context(), "file"); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("bucket after restart: %v, want %v", err, jetstream.ErrBucketNotFound)
	}
}

func TestStopAndStart(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)

	s.Stop()
	s.Stop()
	eventually(t, func() bool { return !nc.IsConnected() })
	if s.Server() != nil {
		t.Error("a stopped node has a server")
	}
	if c, err := s.InProcessConn(); err == nil {
		t.Errorf("a stopped node gave a connection: %v", c)
	}

	s.Start(t)
	s.Start(t)
	eventually(t, func() bool { return nc.IsConnected() })
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	s := bustest.Server(t, bustest.MaxPayload(1000), bustest.Log(log),
		bustest.Configure(func(o *server.Options) { o.ServerName = "frida" }))
	nc := s.Connect(t, nats.Name("client"))

	if got := nc.MaxPayload(); got != 1000 {
		t.Errorf("max payload %d, want 1000", got)
	}
	if got := nc.ConnectedServerName(); got != "frida" {
		t.Errorf("server name %q, want frida", got)
	}
	if got := nc.Opts.Name; got != "client" {
		t.Errorf("client name %q, want client", got)
	}
	if !strings.Contains(log.String(), "Server is ready") {
		t.Errorf("log does not say that the server is ready:\n%s", log.String())
	}
	s.Restart(t)
	eventually(t, func() bool { return nc.IsConnected() })
	if got := nc.MaxPayload(); got != 1000 {
		t.Errorf("max payload after restart %d, want 1000", got)
	}
}

// TestStartWaitsForItsPort takes the port while the server is down.
func TestStartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	url := s.URL()
	s.Stop()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Skipf("somebody was faster: %v", err)
	}
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start(t)
	}()
	select {
	case <-started:
		t.Error("started on a port that is taken")
	case <-time.After(200 * time.Millisecond):
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-started
	if s.URL() != url {
		t.Errorf("URL %q, before %q", s.URL(), url)
	}
	if err := s.Connect(t).Flush(); err != nil {
		t.Error(err)
	}
}

func TestURLWithoutPortLeadsNowhere(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Errorf("%s leads to a server", s.URL())
	}
}

func TestOpenReportsBadOptions(t *testing.T) {
	t.Parallel()
	s, err := bustest.Open(bustest.Configure(func(o *server.Options) { o.ServerName = "a b" }))
	if err == nil {
		_ = s.Close()
		t.Fatal("a server with a space in its name started")
	}
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	s, err := bustest.Open()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func newJetStream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func newBucket(t *testing.T, js jetstream.JetStream, cfg jetstream.KeyValueConfig) jetstream.KeyValue {
	t.Helper()
	kv, err := js.CreateKeyValue(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 20 s in vain")
		}
	}
}

// buffer is a strings.Builder for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
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

func TestEventually(t *testing.T) {
	t.Parallel()
	n := 0
	bustest.Eventually(t, "the third time", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("asked %d times", n)
	}
}
