package httpx

import (
	"errors"
	"net"
	"sync"
)

// limitListener is a listener whose connections are bounded: others wait to be accepted. It differs from golang.org/x/net/netutil's in that its
// connections can be closed for writing: a server that only closes one on which something unread is left takes the answer away from its client.
type limitListener struct {
	net.Listener

	places chan struct{}
	closed chan struct{}
	close  func() error
}

func newLimitListener(l net.Listener, most int) *limitListener {
	closed := make(chan struct{})
	return &limitListener{l, make(chan struct{}, most), closed, sync.OnceValue(func() error {
		close(closed)
		return l.Close()
	})}
}

// Accept waits for a place, and then for a connection.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed: // the listener says so
	}
	c, err := l.Listener.Accept()
	if err != nil {
		l.leave()
		return nil, err
	}
	return &limitedConn{Conn: c, leave: sync.OnceFunc(l.leave)}, nil
}

func (l *limitListener) leave() {
	select {
	case <-l.places:
	default: // none was taken
	}
}

// Close closes the listener, and ends an Accept that waits for a place.
func (l *limitListener) Close() error { return l.close() }

type limitedConn struct {
	net.Conn

	leave func()
}

// Close gives the place back.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}

// CloseWrite closes the connection for writing, where that can be done.
func (c *limitedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
