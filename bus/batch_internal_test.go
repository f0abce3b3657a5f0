package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// batchPair is a batchConn and what it leads to, over TCP.
func batchPair(t *testing.T, timeout time.Duration) (*batchConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ours, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // as above
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newBatchConn(ours, timeout)
	t.Cleanup(func() {
		_ = theirs.Close()
		_ = c.Close()
	})
	return c, theirs
}

// gateConn lets writes through one at a time.
type gateConn struct {
	net.Conn

	begun chan int // bytes
	pass  chan struct{}
}

func (c gateConn) Write(p []byte) (int, error) {
	c.begun <- len(p)
	<-c.pass
	return c.Conn.Write(p)
}

// What is sent while a write is under way goes in the next one, all of it.
func TestBatchConnWritesTogether(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	gate := gateConn{near, make(chan int), make(chan struct{})}
	c := newBatchConn(gate, time.Minute)
	go func() { _, _ = io.Copy(io.Discard, far) }()
	write := func() {
		if n, err := c.Write([]byte("12345")); n != 5 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	write()
	if n := <-gate.begun; n != 5 {
		t.Errorf("the first write has %d bytes, want 5", n)
	}
	for range 100 {
		write()
	}
	gate.pass <- struct{}{}
	if n := <-gate.begun; n != 500 {
		t.Errorf("the second write has %d bytes, want 500", n)
	}
	gate.pass <- struct{}{}
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v, want %v", err, net.ErrClosed)
	}
	_ = far.Close()
}

// Everything arrives, of each writer in its order, also what waits when the connection is closed.
func TestBatchConnOrder(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 2000
	c, theirs := batchPair(t, time.Minute)
	all := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(theirs) // to its end
		all <- data
	}()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := c.Write(fmt.Appendf(nil, "%d %d\n", w, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	var next [writers]int
	for line := range bytes.Lines(<-all) {
		var w, i int
		if _, err := fmt.Sscanf(string(line), "%d %d\n", &w, &i); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if i != next[w] {
			t.Fatalf("writer %d: %d came, want %d", w, i, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %d: %d came, want %d", w, n, each)
		}
	}
}

// A peer that reads nothing makes who sends wait, not the memory grow, and ends the connection after a while. Who reads hears why.
func TestBatchConnStalled(t *testing.T) {
	t.Parallel()
	c, _ := batchPair(t, 200*time.Millisecond)
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	chunk := make([]byte, 64<<10)
	var err error
	for range 1 << 12 { // 256 MiB, far more than the kernel takes
		if _, err = c.Write(chunk); err != nil {
			break
		}
		c.mu.Lock()
		n := len(c.waiting)
		c.mu.Unlock()
		if n > batchRoom+len(chunk) {
			t.Fatalf("%d bytes wait, want at most %d", n, batchRoom+len(chunk))
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want that of the write", err)
	}
}

// What a server said before it closed the connection is read, though a write has failed meanwhile; then comes why.
func TestBatchConnReadsTheLast(t *testing.T) {
	t.Parallel()
	for _, unread := range []bool{false, true} { // by the peer: then its end is not a good one
		t.Run(fmt.Sprint("unread ", unread), func(t *testing.T) {
			t.Parallel()
			c, theirs := batchPair(t, time.Minute)
			if _, err := c.Write([]byte("PING\r\n")); err != nil {
				t.Fatal(err)
			}
			ping := make([]byte, 6)
			if unread {
				ping = ping[:1] // it has arrived
			}
			if _, err := io.ReadFull(theirs, ping); err != nil {
				t.Fatal(err)
			}
			const last = "MSG a 1 2\r\nhi\r\n-ERR 'User Authentication Expired'\r\n"
			if _, err := theirs.Write([]byte(last)); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Close(); err != nil {
				t.Fatal(err)
			}
			var err error
			for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); runtime.Gosched() {
				_, err = c.Write([]byte("PUB a 2\r\nhi\r\n"))
			}
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("write: %v, want that the connection has gone", err)
			}
			if c.writes() {
				t.Error("somebody writes on")
			}
			got, rerr := io.ReadAll(c)
			if string(got) != last || !errors.Is(rerr, err) {
				t.Errorf("read %q, %v, want %q and then %v", got, rerr, last, err)
			}
		})
	}
}

// brokenConn is gone, and nobody who reads from it hears of that.
type brokenConn struct{ net.Conn }

func (brokenConn) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// Whoever reads hears of a connection that has gone also where that itself gives no sign.
func TestBatchConnEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		c := newBatchConn(brokenConn{near}, time.Minute)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.EPIPE) || time.Since(begin) != batchLast {
			t.Errorf("read after %s: %v, want %v after %s", time.Since(begin), err, syscall.EPIPE, batchLast)
		}
		_ = c.Close()
	})
}

// To close a connection whose peer reads nothing takes a moment, and ends the goroutine.
func TestBatchConnCloseStalled(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	c := newBatchConn(near, time.Hour)
	if _, err := c.Write([]byte("nobody reads this")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if c.writes() {
		t.Error("somebody writes on")
	}
	_ = far.Close()
}

func (c *batchConn) writes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writing
}

// nats.go drops a connection, without closing it, where a server takes it and says nothing: no goroutine may hold on to it.
func TestBatchConnDropped(t *testing.T) {
	t.Parallel()
	c, theirs := batchPair(t, time.Minute)
	for range 3 {
		if _, err := c.Write([]byte("12345")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(theirs, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); c.writes(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("what was sent has arrived, and somebody writes on")
			}
		}
	}
}

type skipping struct {
	net.Dialer

	skip bool
}

func (s *skipping) SkipTLSHandshake() bool { return s.skip }

// What a user says of the connection holds.
func TestBatchWritesKeepsOptions(t *testing.T) {
	t.Parallel()
	o := nats.Options{Timeout: time.Second, FlusherTimeout: time.Minute}
	if err := batchWrites(func() {})(&o); err != nil {
		t.Fatal(err)
	}
	d, ok := o.CustomDialer.(batchDialer)
	if !ok || d.timeout != time.Minute || o.FlusherTimeout != 0 {
		t.Fatalf("dialer %#v, timeout %v", o.CustomDialer, o.FlusherTimeout)
	}
	if inner, ok := d.CustomDialer.(*net.Dialer); !ok || inner.Timeout != time.Second || d.SkipTLSHandshake() {
		t.Errorf("dialer %#v", d.CustomDialer)
	}
	for _, skip := range []bool{true, false} {
		o = nats.Options{CustomDialer: &skipping{skip: skip}}
		_ = batchWrites(func() {})(&o) // as above
		if d, ok := o.CustomDialer.(batchDialer); !ok || d.SkipTLSHandshake() != skip {
			t.Errorf("skip %t: dialer %#v", skip, o.CustomDialer)
		}
	}
	o = nats.Options{CustomDialer: &skipping{}, FlusherTimeout: time.Minute}
	_ = batchWrites(func() {})(&o) // as above
	if o.FlusherTimeout != time.Minute {
		t.Error("writes to what a user's dialer makes, and is not wrapped, may take for ever")
	}
	o = nats.Options{Dialer: &net.Dialer{Timeout: time.Hour}}
	_ = batchWrites(func() {})(&o) // as above
	d, _ = o.CustomDialer.(batchDialer)
	if inner, ok := d.CustomDialer.(*net.Dialer); !ok || inner.Timeout != time.Hour {
		t.Errorf("dialer %#v", d.CustomDialer)
	}
}
