package mirror

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// firstRead is how much room a body has at first, whatever length its head says: it may never come.
const firstRead = 64 << 10

// room bounds what is used at once.
type room struct {
	used  atomic.Int64
	limit int64
}

// take tells whether there was room for n, which give gives back.
func (r *room) take(n int64) bool {
	if r.used.Add(n) <= r.limit {
		return true
	}
	r.used.Add(-n)
	return false
}

func (r *room) give(n int64) { r.used.Add(-n) }

// readBody reads all of a body of at most limit bytes. What it holds counts in m.bodies until release is called, also after an error.
func (m *Mirror) readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	held := int64(0)
	release = func() { m.bodies.give(held) }
	grow := func(size int64) bool {
		if !m.bodies.take(size - held) {
			return false
		}
		held = size
		bigger := make([]byte, len(body), size)
		copy(bigger, body)
		body = bigger
		return true
	}
	if httpx.TooLong(w, r, limit) { // said before a byte of it is read
		return nil, release, bodyError(&http.MaxBytesError{Limit: limit}, limit)
	}
	if httpx.NoBody(r) {
		return nil, release, nil
	}
	size := int64(firstRead)
	if r.ContentLength > 0 {
		size = min(size, r.ContentLength)
	}
	src := http.MaxBytesReader(w, r.Body, limit)
	if !grow(size) {
		return nil, release, errNoRoom()
	}
	for {
		n, err := src.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case err == io.EOF:
			return body, release, nil
		case err != nil:
			return nil, release, bodyError(err, limit)
		case len(body) < cap(body):
			continue
		}
		size = 2*held + 1 // one more shows the end
		if r.ContentLength > 0 {
			size = min(size, r.ContentLength+1)
		}
		if !grow(min(size, limit+1)) {
			return nil, release, errNoRoom()
		}
	}
}

func errNoRoom() error {
	return bus.Errorf(bus.Unavailable, "this process holds as many bodies as it may; nothing was stored").With("stored", "no")
}

func bodyError(err error, limit int64) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return withStatus(http.StatusRequestEntityTooLarge, bus.ResourceExhausted, "the body has more than %d bytes", limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return withStatus(http.StatusRequestTimeout, bus.DeadlineExceeded, "the body did not come in time")
	}
	return bus.Wrap(bus.InvalidArgument, "the body could not be read: "+err.Error(), err)
}
