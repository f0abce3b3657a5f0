package micro

import "sync"

// Hooks are called one at a time, in the order of what they tell of. Each may be nil. They must return soon: the service
// mostly waits for them.
type Hooks struct {
	Started      func() // requests can arrive
	Registered   func() // others can see the instance, and that it takes requests; again after its record was lost and written anew
	Unregistered func() // the instance takes no new requests but those sent to it by name
	Stopped      func() // everything is finished
}

// hookQueue calls hooks one at a time. Who finds another at it leaves his there, so that a hook may do what leads to
// further ones.
type hookQueue struct {
	mu      sync.Mutex
	waiting []func()
	idle    chan struct{} // closed when those waiting were called; nil when nobody is at it
}

func (q *hookQueue) add(hook func()) {
	if hook == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, hook)
}

// run calls what was added, unless somebody is at it already.
func (q *hookQueue) run() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.idle != nil {
		return
	}
	q.idle = make(chan struct{})
	for len(q.waiting) > 0 {
		hook := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		hook()
		q.mu.Lock()
	}
	close(q.idle)
	q.idle = nil
}

// finish calls what was added and waits for who is at it.
func (q *hookQueue) finish() {
	q.run()
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
