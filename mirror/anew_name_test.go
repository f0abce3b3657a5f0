package mirror_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

// cable leads a process to the server, until it is cut.
type cable struct {
	node   *bustest.Node
	before func(sent []byte) // nil for nothing: called before something goes to the server

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

var _ nats.InProcessConnProvider = (*cable)(nil)

var errCut = errors.New("the cable is cut")

func (c *cable) InProcessConn() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errCut
	}
	conn, err := c.node.InProcessConn()
	if err != nil {
		return nil, err
	}
	c.conns = append(c.conns, conn)
	if c.before == nil {
		return conn, nil
	}
	return &tapped{conn, c.before}, nil
}

type tapped struct {
	net.Conn
	before func(sent []byte)
}

func (c *tapped) Write(b []byte) (int, error) {
	c.before(b)
	return c.Conn.Write(b)
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	c.isCut = false
	c.mu.Unlock()
}

// openOver opens a mirror as a process of its own.
func openOver(t *testing.T, line *cable, cfg mirror.Config) *mirror.Mirror {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: line})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := mirror.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// A process that heard nothing while its mirror was removed and made anew takes no more writes once it hears, and none that it has taken till then is lost.
func TestMadeAnewUnheard(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	line := &cable{node: r.node}
	deaf := openOver(t, line, mirror.Config{Name: "shop", Ack: mirror.Queued})
	first := r.open(t, mirror.Config{Name: "shop"})
	eventually(t, "the backend is known", func() bool { return len(deaf.Conditions()) == 1 })

	line.cut()
	if _, err := first.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	anew := r.open(t, mirror.Config{Name: "shop", Lanes: 2})
	run(t, anew)
	line.mend()

	front := serve(t, deaf)
	var taken []string
	eventually(t, "it hears that the mirror is another one", func() bool {
		path := fmt.Sprintf("/%d", len(taken))
		got := do(t, http.MethodPut, front.URL+path, "x")
		if got.status == http.StatusAccepted {
			taken = append(taken, path)
		}
		return got.status == http.StatusServiceUnavailable && strings.Contains(got.body, "the mirror was removed")
	})
	for _, path := range taken {
		eventually(t, path+" is applied", func() bool { return r.backends[0].state()[path] == "x" })
	}
}

// A mirror that is removed while a process opens it, between reading the settings and following them, is removed to that process.
func TestRemovedWhileItOpens(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	first := r.open(t, mirror.Config{Name: "shop"})
	var once sync.Once
	m := openOver(t, &cable{node: r.node, before: func(sent []byte) {
		if bytes.Contains(sent, []byte("SUB skybus.mirwn.")) { // what follows
			once.Do(func() {
				if _, err := first.Remove(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}}, mirror.Config{Name: "shop"})
	if got := do(t, http.MethodGet, serve(t, m).URL+"/x", ""); !strings.Contains(got.body, "the mirror was removed") {
		t.Errorf("%d %q", got.status, got.body)
	}
}

// A write that was sent to a mirror that was removed, and is repeated, is another one to the mirror that was made anew.
func TestRepeatedToOneMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for _, which := range []string{"the first", "the one made anew"} {
		m := r.open(t, mirror.Config{Name: "shop"})
		stop := run(t, m)
		req, got := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/x", strings.NewReader("x")), httptest.NewRecorder()
		req.Header.Set("Idempotency-Key", "the-same")
		if m.ServeHTTP(got, req); got.Code != http.StatusOK {
			t.Errorf("%s: %d %v %s", which, got.Code, got.Header(), got.Body)
		}
		stop()
		if _, err := m.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.backends[0].all()); n != 2 {
		t.Errorf("%d writes were applied, want 2", n)
	}
}

// A write that was stored into a lane which the mirror does not have, by a process of one of that name with more of them, is applied all the same.
func TestLaneOfAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{Name: "shop", Lanes: 8})
	ack, err := r.conn.JetStream().Publish(t.Context(), "skybus.mir.default.dev.shop.63", []byte("PUT /x HTTP/1.1\r\nHost: h\r\n\r\nodd"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, m)
	eventually(t, "it is applied", func() bool { return r.backends[0].state()["/x"] == "odd" })
	if lane := r.backends[0].all()[0].lane; lane != "7" {
		t.Errorf("in lane %s, want 7", lane)
	}
	eventually(t, "its state is known", func() bool {
		s, err := m.WriteStatus(t.Context(), ack.Sequence)
		return err == nil && s.Lane == 7 && s.State == "applied"
	})
}
