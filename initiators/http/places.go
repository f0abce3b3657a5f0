package http

import (
	"container/list"
	"net/http"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

const (
	bodyPatience = 2 * time.Second        // for a body, where others wait for its place
	placeWait    = 250 * time.Millisecond // for a place whose body is cut off
)

// places are those of requests that are worked on. While all are taken, a body that has not come in bodyPatience is cut off when another request
// comes: else some slow clients would shut the gateway for all.
type places struct {
	taken chan struct{}
	left  func() // gives one back: made once, not for each request

	mu      sync.Mutex
	reading *list.List // of *bodyReader, the oldest first
}

// bodyReader is a request whose body is being read.
type bodyReader struct {
	since time.Time
	rc    *http.ResponseController
	cut   bool
}

func newPlaces(n int) *places {
	p := &places{taken: make(chan struct{}, n), reading: list.New()}
	p.left = func() { <-p.taken }
	return p
}

// enter takes a place.
func (p *places) enter() (leave func(), err error) {
	select {
	case p.taken <- struct{}{}:
		return p.left, nil
	default:
	}
	if p.cutOff() {
		timer := time.NewTimer(placeWait)
		defer timer.Stop()
		select {
		case p.taken <- struct{}{}:
			return p.left, nil
		case <-timer.C:
		}
	}
	return nil, bus.Errorf(bus.Unavailable, "this gateway works on %d requests already", cap(p.taken))
}

// cutOff ends the reading of the body that has taken longest, if that is too long.
func (p *places) cutOff() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := p.reading.Front()
	if oldest == nil {
		return false
	}
	b, _ := oldest.Value.(*bodyReader)
	if time.Since(b.since) < bodyPatience {
		return false
	}
	p.reading.Remove(oldest)
	b.cut = true
	return b.rc.SetReadDeadline(time.Now()) == nil
}

// readBody reads the whole body of a request to w, which closes the connections of bodies that are too large.
func (p *places) readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if httpx.NoBody(r) {
		return nil, nil
	}
	b := &bodyReader{since: time.Now(), rc: http.NewResponseController(w)}
	p.mu.Lock()
	at := p.reading.PushBack(b)
	p.mu.Unlock()
	body, problem := httpx.ReadBody(w, r, limit)
	p.mu.Lock()
	p.reading.Remove(at)
	cut := b.cut
	p.mu.Unlock()
	switch {
	case cut: // even if it came all the same: the connection reads nothing more
		return nil, problemError(&httpx.Problem{
			Status: http.StatusRequestTimeout, Code: string(bus.DeadlineExceeded), Detail: "the body did not come in time, and others wait",
		})
	case problem != nil:
		return nil, problemError(problem)
	}
	return body, nil
}

// problemError is a problem as an error, which is answered as all others are.
func problemError(p *httpx.Problem) error {
	e := bus.Errorf(bus.Code(p.Code), "%s", p.Detail)
	e.Status = p.Status
	return e
}
