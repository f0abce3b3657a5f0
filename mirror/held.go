package mirror

import (
	"context"
	"sync"
	"time"
)

const (
	maxHeld  = 128 << 20 // bytes of bodies from the object store that a sender holds at once
	heldIdle = 5 * time.Second
)

// held are the bodies from the object store that a sender has in memory: each once, for all backends that it is being sent to, and for a moment longer
// for those that will come to it. A backend holds a body only while a request with it is on its way, so that one which is down holds none.
type held struct {
	load func(*spilled) ([]byte, error)
	room broadcast

	mu     sync.Mutex
	wg     sync.WaitGroup // loads
	bodies map[string]*heldBody
	used   int64
}

type heldBody struct {
	size   int64
	loaded chan struct{}
	data   []byte
	err    error

	users int
	idle  time.Time // since when it has had none
}

// acquire returns a body, which has to be released.
func (h *held) acquire(ctx context.Context, s *spilled) ([]byte, func(), error) {
	for {
		room := h.room.wait()
		b := h.take(s)
		if b == nil {
			select {
			case <-room:
				continue
			case <-ctx.Done():
				return nil, nil, errEnded
			}
		}
		release := sync.OnceFunc(func() { h.release(b) })
		select {
		case <-b.loaded:
		case <-ctx.Done():
			release()
			return nil, nil, errEnded
		}
		if b.err != nil {
			release()
			return nil, nil, b.err
		}
		return b.data, release, nil
	}
}

// take is a body with one user more; nil where there is no room for it. One that is larger than all the room is taken when there is no other.
func (h *held) take(s *spilled) *heldBody {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.bodies[s.name]; b != nil {
		b.users++
		return b
	}
	for h.used+s.size > maxHeld {
		if !h.evictLocked(time.Time{}) {
			break
		}
	}
	if h.used > 0 && h.used+s.size > maxHeld {
		return nil
	}
	if h.bodies == nil {
		h.bodies = map[string]*heldBody{}
	}
	b := &heldBody{size: s.size, loaded: make(chan struct{}), users: 1}
	h.bodies[s.name] = b
	h.used += s.size
	h.wg.Go(func() {
		data, err := h.load(s)
		h.mu.Lock()
		b.data, b.err = data, err
		if err != nil { // who comes next tries again
			h.removeLocked(s.name, b)
		}
		h.mu.Unlock()
		close(b.loaded)
		h.room.notify()
	})
	return b
}

func (h *held) release(b *heldBody) {
	h.mu.Lock()
	b.users--
	b.idle = time.Now()
	h.mu.Unlock()
	h.room.notify()
}

func (h *held) removeLocked(name string, b *heldBody) {
	if h.bodies[name] == b {
		delete(h.bodies, name)
		h.used -= b.size
	}
}

// evictLocked forgets the body that has had no user for longest, where that is since before a time that is not zero, and tells whether there was one.
func (h *held) evictLocked(before time.Time) bool {
	var oldest string
	for name, b := range h.bodies {
		if b.users == 0 && b.data != nil && (before.IsZero() || b.idle.Before(before)) && (oldest == "" || b.idle.Before(h.bodies[oldest].idle)) {
			oldest = name
		}
	}
	if oldest != "" {
		h.removeLocked(oldest, h.bodies[oldest])
	}
	return oldest != ""
}

// expire forgets what nobody has used for a while.
func (h *held) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := time.Now().Add(-heldIdle)
	for more := true; more; {
		more = h.evictLocked(before)
	}
}

// bodyOf is the body of a write, wherever it is; release has to be called when it is no longer needed. It waits while the servers do not answer. The error is
// errEnded, or errBodyGone.
func (s *sender) bodyOf(ctx context.Context, w *write) (body []byte, release func(), err error) {
	if w.body == nil {
		return w.request.body, func() {}, nil
	}
	return s.held.acquire(ctx, w.body)
}
