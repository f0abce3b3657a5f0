package tcp_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/internal/tlsfiles"
)

// remote answers with the address of the client.
func remote(_ context.Context, req initiators.Request) (initiators.Reply, error) {
	at, _ := req.Values("remote")
	return initiators.Reply{Body: []byte(at)}, nil
}

// header is one of the PROXY protocol.
func header(t testing.TB, version byte, from, to string) string {
	t.Helper()
	source, err := net.ResolveTCPAddr("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	dest, err := net.ResolveTCPAddr("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proxyproto.HeaderProxyFromAddrs(version, source, dest).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// signature begins a header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// A balancer says whose connection it is, in either version; what follows is as without one.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s := serve(t, target(remote), tcp.Config{ProxyProtocol: []string{"127.0.0.0/8", "::1"}})
	for name, tt := range map[string]struct{ header, want string }{
		"version 1":                {header(t, 1, "192.0.2.7:5000", "10.0.0.1:9000"), "192.0.2.7:5000"},
		"version 1, IPv6":          {header(t, 1, "[2001:db8::7]:5000", "[2001:db8::1]:9000"), "[2001:db8::7]:5000"},
		"version 2":                {header(t, 2, "192.0.2.7:5000", "10.0.0.1:9000"), "192.0.2.7:5000"},
		"version 2, IPv6":          {header(t, 2, "[2001:db8::7]:5000", "[2001:db8::1]:9000"), "[2001:db8::7]:5000"},
		"version 1, not known":     {"PROXY UNKNOWN\r\n", "127.0.0.1:"},
		"version 2, its own":       {signature + "\x20\x00\x00\x00", "127.0.0.1:"},
		"version 2, with more":     {signature + "\x21\x11\x00\x10\xc0\x00\x02\x07\x0a\x00\x00\x01\x13\x88\x23\x28\x04\x00\x01x", "192.0.2.7:5000"},
		"version 2, own with more": {signature + "\x20\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x13\x88\x23\x28", "127.0.0.1:"},
	} {
		c := s.dial(t)
		c.write(tt.header + "a\n")
		if got := c.line(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: the client is %q, want %q", name, got, tt.want)
		}
		c.write("b\n")
		if got := c.line(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: then the client is %q", name, got)
		}
	}
	// As it comes over slow networks, and together with all that follows.
	c := s.dial(t)
	for _, b := range []byte(header(t, 2, "192.0.2.8:5000", "10.0.0.1:9000") + "a\n") {
		c.write(string([]byte{b}))
	}
	if got := c.line(); got != "192.0.2.8:5000" {
		t.Errorf("byte by byte: %q", got)
	}
	c = s.dial(t)
	c.write(header(t, 1, "192.0.2.8:5000", "10.0.0.1:9000") + strings.Repeat(strings.Repeat("x", 1000)+"\n", 12))
	c.finish()
	if got := c.rest(); got != strings.Repeat("192.0.2.8:5000\n", 12) {
		t.Errorf("all at once: %q", got)
	}
}

// What a balancer says wrongly, or not, is no connection, and it is told. What it looks for without a word is no fault.
func TestProxyProtocolRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"none":                   "a\n",
		"a frame like it":        "PROX\n",
		"another word":           "PROXY TCP5 192.0.2.7 10.0.0.1 5000 9000\r\n",
		"without its end":        "PROXY TCP4 192.0.2.7 10.0.0.1 5000 9000" + strings.Repeat(" ", 200),
		"a bare line feed":       "PROXY TCP4 192.0.2.7 10.0.0.1 5000 9000\n",
		"a name":                 "PROXY TCP4 evil.example 10.0.0.1 5000 9000\r\n",
		"a zone":                 "PROXY TCP6 fe80::1%lo ::1 5000 9000\r\n",
		"a port too many":        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 9000\r\n",
		"UDP":                    signature + "\x21\x12\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x13\x88\x23\x28",
		"version 3":              signature + "\x31\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x13\x88\x23\x28",
		"another command":        signature + "\x22\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x13\x88\x23\x28",
		"too short for IPv6":     signature + "\x21\x21\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x13\x88\x23\x28",
		"64 KiB that never come": signature + "\x21\x11\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, target(func(context.Context, initiators.Request) (initiators.Reply, error) {
				t.Error("a request came of it")
				return initiators.Reply{}, nil
			}), tcp.Config{ProxyProtocol: []string{"127.0.0.1"}})
			c := s.dial(t)
			c.write(text)
			if f := parseFailure(t, c.closed()); f.Code != bus.InvalidArgument || f.ID != "" {
				t.Errorf("%+v", f)
			}
			bustest.Eventually(t, "its end", func() bool { return s.Stats().Connections == 0 })
			if st := s.Stats(); st.Refused[tcp.ReasonProxy] != 1 || st.Accepted != 0 || st.Frames != 0 {
				t.Errorf("%+v", st)
			}
			look := s.dial(t)
			look.finish()
			if got := look.rest(); got != "" || s.refused(tcp.ReasonProxy) != 1 {
				t.Errorf("a look at the port is answered %q", got)
			}
		})
	}
}

// Whoever is not trusted speaks for himself; a header by him is no frame.
func TestProxyProtocolOfStrangers(t *testing.T) {
	t.Parallel()
	s := serve(t, target(remote), tcp.Config{ProxyProtocol: []string{"192.0.2.0/24"}})
	c := s.dial(t)
	c.write("a\n")
	if got := c.line(); got != c.LocalAddr().String() {
		t.Errorf("the client is %q, want %q", got, c.LocalAddr())
	}
	for _, version := range []byte{1, 2} {
		c := s.dial(t)
		c.write(header(t, version, "192.0.2.7:5000", "10.0.0.1:9000") + "a\n")
		if f := parseFailure(t, c.closed()); f.Code != bus.PermissionDenied {
			t.Errorf("version %d: %+v", version, f)
		}
	}
	if st := s.Stats(); st.Refused[tcp.ReasonProxy] != 2 || st.Frames != 1 {
		t.Errorf("%+v", st)
	}
	// Without the word of the configuration it is a frame like any other.
	plain := serve(t, target(echo), tcp.Config{})
	c = plain.dial(t)
	c.write("PROXY TCP4 192.0.2.7 10.0.0.1 5000 9000\r\n")
	if got := c.line(); got != "PROXY TCP4 192.0.2.7 10.0.0.1 5000 9000" {
		t.Errorf("%q", got)
	}
}

// Connections count for the clients that they are of, not for their balancer.
func TestProxyProtocolAndLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, target(echo), tcp.Config{ProxyProtocol: []string{"127.0.0.1"}, MaxConnsPerIP: 2, MaxConns: 5})
	open := func(from string) *client {
		c := s.dial(t)
		c.write(header(t, 2, from, "10.0.0.1:9000") + "a\n")
		return c
	}
	first := open("192.0.2.1:1")
	for _, c := range []*client{first, open("192.0.2.1:2"), open("192.0.2.2:1"), open("192.0.2.2:2")} {
		if got := c.line(); got != "a" {
			t.Fatalf("%q", got)
		}
	}
	if f := parseFailure(t, open("192.0.2.1:3").closed()); f.Code != bus.ResourceExhausted || !strings.Contains(f.Message, "2 connections from 192.0.2.1") {
		t.Errorf("%+v", f)
	}
	bustest.Eventually(t, "the refused one to go", func() bool { return s.Stats().Connections == 4 })
	_ = first.Close()
	bustest.Eventually(t, "a free place", func() bool { return s.Stats().Connections == 3 })
	if got := open("192.0.2.1:4").line(); got != "a" {
		t.Errorf("in its place: %q", got)
	}
	if st := s.Stats(); st.Refused[tcp.ReasonConnectionsPerIP] != 1 || st.Accepted != 5 {
		t.Errorf("%+v", st)
	}
}

// The header comes before TLS, whose certificate is the client's own.
func TestProxyProtocolOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	issue(t, "server", files.Cert, files.Key)
	cfg, err := files.Config(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, target(remote), tcp.Config{TLS: cfg, ProxyProtocol: []string{"127.0.0.1"}})
	under := s.dial(t)
	under.write(header(t, 2, "192.0.2.7:5000", "10.0.0.1:9000"))
	c := newClient(t, tls.Client(under.Conn, &tls.Config{InsecureSkipVerify: true}))
	c.write("a\n")
	if got := c.line(); got != "192.0.2.7:5000" {
		t.Errorf("%q", got)
	}
	without := s.dial(t)
	tc := tls.Client(without.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := tc.HandshakeContext(t.Context()); err == nil || s.refused(tcp.ReasonProxy) != 1 {
		t.Errorf("TLS without a header: %v, %d refused", err, s.refused(tcp.ReasonProxy))
	}
}

// network is a listener of connections within the process that are those of an address.
type network struct {
	*pipes

	addr string
}

type addressed struct {
	net.Conn

	addr string
}

// RemoteAddr is the other side's.
func (c addressed) RemoteAddr() net.Addr {
	at, _ := net.ResolveTCPAddr("tcp", c.addr)
	return at
}

// Accept is net.Listener's.
func (n network) Accept() (net.Conn, error) {
	c, err := n.pipes.Accept()
	if err != nil {
		return nil, err
	}
	return addressed{c, n.addr}, nil
}

// A balancer that says nothing is hung up on after 5 s, and a stop does not wait for it.
func TestProxyProtocolInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := serveOn(t, network{l, "127.0.0.1:1"}, newServer(t, target(echo), tcp.Config{ProxyProtocol: []string{"127.0.0.1"}}))
		c := l.dial(t)
		begin := time.Now()
		got := c.closed()
		if took := time.Since(begin); took != 5*time.Second || parseFailure(t, got).Code != bus.InvalidArgument {
			t.Errorf("%q after %v", got, took)
		}
		// It has 5 s for that alone: what follows has its own time.
		c = l.dial(t)
		go func() { _, _ = io.WriteString(c, header(t, 1, "192.0.2.7:5000", "10.0.0.1:9000")) }()
		time.Sleep(20 * time.Second)
		go func() { _, _ = io.WriteString(c, "a\n") }()
		if got := c.line(); got != "a" {
			t.Errorf("%q", got)
		}
		_ = c.Close()
		silent := l.dial(t)
		time.Sleep(time.Second)
		begin = time.Now()
		s.stop()
		if err := bustest.Receive(t, "the end of Serve", s.done); err != nil || time.Since(begin) > time.Second {
			t.Errorf("it ended after %v with %v", time.Since(begin), err)
		}
		if got := silent.closed(); got != "" || s.refused(tcp.ReasonProxy) != 1 {
			t.Errorf("%q, %d refused", got, s.refused(tcp.ReasonProxy))
		}
	})
}

// Whatever comes from a balancer, it is a connection of an address or none.
func FuzzProxyProtocol(f *testing.F) {
	f.Add([]byte(header(f, 1, "192.0.2.7:5000", "10.0.0.1:9000") + "a\n"))
	f.Add([]byte(header(f, 2, "[2001:db8::7]:5000", "[2001:db8::1]:9000") + "a\n"))
	f.Add([]byte("PROXY UNKNOWN\r\na\n"))
	f.Add([]byte(signature + "\x21\x31\x00\xd8" + strings.Repeat("/", 216)))
	f.Add([]byte(signature + "\x20\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			s := serveOn(t, network{l, "127.0.0.1:1"}, newServer(t, target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
				at, _ := req.Values("remote")
				if _, err := net.ResolveTCPAddr("tcp", at); err != nil {
					t.Errorf("%q: the client is %q", data, at)
				}
				return initiators.Reply{}, nil
			}), tcp.Config{ProxyProtocol: []string{"127.0.0.1"}, MaxFrame: 1000}))
			c := l.dial(t)
			go func() {
				_, _ = c.Write(data)
				_ = c.Close()
			}()
			_, _ = io.Copy(io.Discard, c)
			s.stop()
			if err := <-s.done; err != nil {
				t.Errorf("%q: %v", data, err)
			}
			if st := s.Stats(); st.Connections != 0 {
				t.Errorf("%q: %+v", data, st)
			}
		})
	})
}
