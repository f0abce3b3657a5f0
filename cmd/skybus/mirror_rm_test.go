package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

// farAway is the URL of a server that each message to it takes a while to reach.
func farAway(t *testing.T, s *bustest.Node, delay time.Duration) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", strings.TrimPrefix(s.URL(), "nats://"))
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { pass(near, far) })
			wg.Go(func() { pass(slow{far, delay}, near) })
		}
	})
	return "nats://" + ln.Addr().String()
}

// pass passes on what comes, until one of both has gone.
func pass(to io.WriteCloser, from io.Reader) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

type slow struct {
	io.WriteCloser
	delay time.Duration
}

func (s slow) Write(b []byte) (int, error) {
	time.Sleep(s.delay) // what makes the line slow: nothing is waited for
	return s.WriteCloser.Write(b)
}

// shop is a server with a mirror of that name.
func shop(t *testing.T) (*bustest.Node, *bus.Conn) {
	t.Helper()
	s := bustest.Server(t, bustest.TCP())
	conn, err := bus.Connect(t.Context(), bus.Config{Server: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := mirror.Open(t.Context(), conn, mirror.Config{Name: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return s, conn
}

// A mirror with many bodies takes longer to remove than a command may wait for an answer.
func TestMirrorRmOfManyBodies(t *testing.T) {
	t.Parallel()
	s, conn := shop(t)
	bodies, err := conn.JetStream().ObjectStore(t.Context(), "skybus_mirror_bodies")
	if err != nil {
		t.Fatal(err)
	}
	const many = 120
	for i := range many {
		if _, err := bodies.PutBytes(t.Context(), fmt.Sprintf("default.dev.shop/%d", i), bytes.Repeat([]byte("x"), 10)); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := runs(t.Context(), &cli{}, "mirror", "rm", "shop", "--yes", "--timeout", "2s", "--server", farAway(t, s, 10*time.Millisecond))
	if code != exitOK || !strings.Contains(stdout, "shop") || !strings.Contains(stderr, " of 120 large bodies removed") {
		t.Errorf("exit %d: %s %s", code, stdout, stderr)
	}
	if objects, err := bodies.List(t.Context()); len(objects) > 0 {
		t.Errorf("%d bodies are left: %v", len(objects), err)
	}
}

// A mirror that was removed by half is listed as such, not run, and removed.
func TestMirrorRmOfTheRest(t *testing.T) {
	t.Parallel()
	s, conn := shop(t)
	mirrors, err := conn.JetStream().KeyValue(t.Context(), "skybus_mirrors")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirrors.PutString(t.Context(), "default.dev.shop._", `{"lanes":64,"key":"path","removing":true}`); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mirror.yaml")
	if err := os.WriteFile(file, []byte("name: shop\nbackends: [{url: \"http://127.0.0.1:1\"}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	for _, tt := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"ls", exitOK, "shop was removed by half, or is being removed: `skybus mirror rm shop` removes the rest"},
		{"run --http 127.0.0.1:0 --admin 127.0.0.1:0 -f " + file, exitFailed, `"shop" is being removed, or was removed by half`},
		{"rm shop --yes", exitOK, ""},
		{"ls", exitOK, "there are no mirrors"},
	} {
		code, _, stderr := runs(ctx, &cli{}, append(append([]string{"mirror"}, strings.Fields(tt.args)...), "--server", s.URL())...)
		if code != tt.code || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%s: exit %d: %s", tt.args, code, stderr)
		}
	}
}
