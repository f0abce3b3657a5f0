package tcp

import (
	"net"
	"sync"
	"time"
)

// timedConn sets the deadlines of each read and write, which others may bring forward meanwhile.
type timedConn struct {
	net.Conn

	writeTimeout time.Duration

	mu       sync.Mutex
	readBy   time.Time // of what is being read
	readEnd  time.Time // nothing is read after it; zero means no end
	writeEnd time.Time
}

// Read reads until the earlier of both times.
func (c *timedConn) Read(p []byte) (int, error) {
	if err := c.arm(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// arm sets the deadline of what is read.
func (c *timedConn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.SetReadDeadline(earlier(c.readBy, c.readEnd))
}

// Write gives the other side its time to take p.
func (c *timedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	err := c.SetWriteDeadline(earlier(time.Now().Add(c.writeTimeout), c.writeEnd))
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// setReadBy is for reads to come.
func (c *timedConn) setReadBy(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy = t
}

// endReading ends this read too, and all to come, at t.
func (c *timedConn) endReading(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readEnd = earlier(t, c.readEnd)
	_ = c.SetReadDeadline(earlier(c.readBy, c.readEnd)) // of a closed connection, which no one reads
}

// endWriting ends this write too, and all to come, at t.
func (c *timedConn) endWriting(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeEnd = earlier(t, c.writeEnd)
	_ = c.SetWriteDeadline(c.writeEnd) // as above
}

// ending tells whether the end of reading is set, and over.
func (c *timedConn) readingEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.readEnd.IsZero() && !time.Now().Before(c.readEnd)
}

// earlier is the earlier of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
