package scheduler

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// loopback is what tests allow to be called.
func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// openTransports is a scheduler that nobody runs, for its transports.
func openTransports(t testing.TB, cfg Config) (*bus.Conn, *Scheduler) {
	t.Helper()
	conn := connectBus(t, bustest.Server(t))
	s, err := Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn, s
}

func connectBus(t testing.TB, n *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// listen is a listener on loopback that is closed when the test ends.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// closing closes c when the test ends.
func closing(t testing.TB, c io.Closer) {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
}

// attempt is a delivery of a payload to a target.
func attempt(target Target, payload string) *Delivery {
	due := time.Date(2026, 5, 1, 12, 0, 0, 1, time.UTC)
	return &Delivery{
		ID: "t1-gen-1", TimerID: "t1", Occurrence: 1, Due: due, Fired: due.Add(time.Millisecond), Attempt: 2,
		Target: target, Payload: []byte(payload), ContentType: "application/json",
	}
}

// deliver makes one attempt, with a deadline that a busy machine meets.
func deliver(t testing.TB, s *Scheduler, d *Delivery) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	target, transport, err := s.target(d.Target)
	if err != nil {
		t.Fatal(err)
	}
	d.Target = target
	return transport.Deliver(ctx, d)
}

// failed takes an attempt's error apart.
func failed(t testing.TB, err error) *DeliveryError {
	t.Helper()
	e, ok := errors.AsType[*DeliveryError](err)
	if !ok {
		t.Fatalf("%v: want a DeliveryError", err)
	}
	return e
}

// check is checkTarget for a target alone.
func check(t testing.TB, s *Scheduler, target Target) error {
	t.Helper()
	_, err := s.checkTarget(t.Context(), target, nil, "", nil)
	return err
}

// wantField fails the test unless err has the code and names the field.
func wantField(t testing.TB, err error, code bus.Code, field string) {
	t.Helper()
	if bus.CodeOf(err) != code || bus.AsError(err).Details["field"] != field {
		t.Errorf("%v (field %q): want %s of field %q", err, bus.AsError(err).Details["field"], code, field)
	}
}

// zone is a name server inside the test: no packet leaves it.
type zone struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
	asked int
}

func (z *zone) set(name string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.names == nil {
		z.names = map[string][]netip.Addr{}
	}
	z.names[name] = nil
	for _, a := range addrs {
		z.names[name] = append(z.names[name], netip.MustParseAddr(a))
	}
}

func (z *zone) questions() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			var err error
			for err == nil {
				err = z.answer(server)
			}
			_ = server.Close()
		}()
		return client, nil
	}}
}

// answer answers one question in the framing of DNS over TCP.
func (z *zone) answer(conn net.Conn) error {
	var size uint16
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return err
	}
	query := make([]byte, size)
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return err
	}
	q := m.Questions[0]
	z.mu.Lock()
	z.asked++
	addrs, known := z.names[strings.TrimSuffix(q.Name.String(), ".")]
	z.mu.Unlock()
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	body, err := reply.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...))
	return err
}
