package tcp

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/skybus-io/skybus/bus"
)

const (
	proxyTimeout = 5 * time.Second // for a balancer to say whose connection it is
	proxyBuffer  = 512
)

// introduced is a connection of a balancer, which says before all else whose it is.
type introduced struct {
	net.Conn

	rest *bufio.Reader // of Conn
}

func newIntroduced(nc net.Conn) *introduced {
	return &introduced{nc, bufio.NewReaderSize(nc, proxyBuffer)}
}

// Read reads what came after the introduction.
func (c *introduced) Read(p []byte) (int, error) { return c.rest.Read(p) }

// CloseWrite says that nothing more will be written.
func (c *introduced) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	return half.CloseWrite()
}

// errNobody is of a connection that was closed again before anything came: it was seen whether somebody listens here.
var errNobody = errors.New("nothing came")

// introduce reads whose connection it is. Of one that the balancer makes for itself, such as to see whether somebody is here, it is the balancer's own.
func (c *conn) introduce() error {
	c.nc.setReadBy(time.Now().Add(proxyTimeout))
	if err := c.nc.arm(); err != nil {
		return errNobody
	}
	header, err := proxyproto.Read(c.intro.rest)
	if err != nil {
		if c.nc.readingEnded() || errors.Is(err, proxyproto.ErrNoProxyProtocol) && c.intro.rest.Buffered() == 0 {
			return errNobody
		}
		return bus.Wrap(bus.InvalidArgument, "want a header of the PROXY protocol, version 1 or 2, from this address", err)
	}
	c.nc.setReadBy(time.Time{})
	if err := c.nc.arm(); err != nil {
		return errNobody
	}
	c.ip = addressOf(c.raw.RemoteAddr())
	if header.Command.IsLocal() || header.TransportProtocol.IsUnspec() {
		return nil
	}
	source, _, ok := header.TCPAddrs()
	if !ok {
		return bus.Errorf(bus.InvalidArgument, "the header of the PROXY protocol is about something else than TCP")
	}
	c.ip, c.remote = addressOf(source), source.String()
	return nil
}

// refuseProxy refuses an introduction by somebody who is not trusted with one: what it says would count as a frame.
func (c *conn) refuseProxy() error {
	if c.intro != nil || !c.v.proxies.Any() {
		return nil
	}
	begin, err := c.br.Peek(c.br.Buffered())
	if err == nil && (bytes.HasPrefix(begin, proxyproto.SIGV2) || bytes.HasPrefix(begin, []byte("PROXY "))) {
		return bus.Wrap(bus.PermissionDenied, "headers of the PROXY protocol are not taken from this address", errProxy)
	}
	return err
}

// addressOf is an address without its port, and not valid where the network has none.
func addressOf(at net.Addr) netip.Addr {
	ip, err := netip.ParseAddrPort(at.String())
	if err != nil {
		return netip.Addr{}
	}
	return ip.Addr().Unmap().WithZone("")
}
