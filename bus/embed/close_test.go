package embed_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/embed"
)

// TestCloseIsQuick has many clients, and one that is frozen with messages on their way to it.
func TestCloseIsQuick(t *testing.T) {
	t.Parallel()
	s := start(t, embed.Config{Dir: t.TempDir()})
	for range 20 {
		js := newJetStream(t, connect(t, s))
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.WatchAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	deafen(t, s)

	begin := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("close took %v", d)
	}
	// The deaf client keeps neither the directory nor the port.
	closeServer(t, start(t, embed.Config{Dir: s.Dir(), Listen: strings.TrimPrefix(s.URL(), "nats://")}))
}

// deafen leaves a client with more to read than any buffer between takes.
func deafen(t *testing.T, s *embed.Server) {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "CONNECT {\"verbose\":false}\r\nSUB flood 1\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for line := ""; line != "PONG\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	nc := connect(t, s)
	for range 32 {
		if err := nc.Publish("flood", make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
