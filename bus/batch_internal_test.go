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
	"testing"
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
	o = nats.Options{Dialer: &net.Dialer{Timeout: time.Hour}}
	_ = batchWrites(func() {})(&o) // as above
	d, _ = o.CustomDialer.(batchDialer)
	if inner, ok := d.CustomDialer.(*net.Dialer); !ok || inner.Timeout != time.Hour {
		t.Errorf("dialer %#v", d.CustomDialer)
	}
}
