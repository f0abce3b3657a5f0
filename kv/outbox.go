package kv

import (
	"cmp"
	"slices"
	"sync"
)

// outbox is what a feed found and its follower has not heard yet: one record per key, so that a slow follower costs no
// more than the bucket has keys.
type outbox struct {
	ready chan struct{} // has one element when there is something to take

	mu      sync.Mutex
	changed map[string]record
	loaded  bool // the first load is in
	err     error
}

func newOutbox() *outbox {
	return &outbox{ready: make(chan struct{}, 1), changed: map[string]record{}}
}

// put replaces what is waiting for the key of r.
func (o *outbox) put(r record) {
	o.mu.Lock()
	o.changed[r.key] = r
	loaded := o.loaded
	o.mu.Unlock()
	if loaded {
		o.signal()
	}
}

// load says that changed holds the whole state at least.
func (o *outbox) load() {
	o.mu.Lock()
	o.loaded = true
	o.mu.Unlock()
	o.signal()
}

// fail says that nothing follows.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take empties the outbox, in the order of the revisions.
func (o *outbox) take() ([]record, error) {
	o.mu.Lock()
	changed, err := o.changed, o.err
	if o.loaded {
		o.changed = map[string]record{}
	} else {
		changed = nil
	}
	o.mu.Unlock()

	batch := make([]record, 0, len(changed))
	for _, r := range changed {
		batch = append(batch, r)
	}
	slices.SortFunc(batch, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.key, b.key))
	})
	return batch, err
}
