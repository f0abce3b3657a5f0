//go:build unix

package whole_test

import (
	"io"
	"net"
	"testing"
	"time"
)

const (
	// usualTrip is what a round trip of TCP on loopback takes where the load is what it can be.
	usualTrip = 12 * time.Microsecond
	trips     = 4000
)

// roundTrip measures how long a small message takes there and back: most of what the system does is that.
func roundTrip(t *testing.T) time.Duration {
	t.Helper()
	l, err := net.Listen("tcp", anywhere) //nolint:noctx // it is over in a moment
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return // the other side says so
		}
		defer func() { _ = c.Close() }()
		_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // ends when the other side closes
	}()
	c, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // as above
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	begin, message := time.Now(), make([]byte, 64)
	for range trips {
		if _, err := c.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, message); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begin) / trips
}
