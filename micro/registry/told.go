package registry

import (
	"context"
	"fmt"
)

// watcher is what one loop over a watch was told, for those who wait for that.
type watcher struct {
	criteria Criteria
	told     map[string]*Instance // by service and id: what its body has dealt with
}

// watching notes that a watch has begun. The caller ends it with unwatch.
func (r *Registry) watching(c Criteria) *watcher {
	w := &watcher{criteria: c, told: map[string]*Instance{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[w] = struct{}{}
	return w
}

func (r *Registry) unwatch(w *watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watchers, w)
	r.wakeLocked()
}

// dealt notes that the body of a loop has come back from a change.
func (r *Registry) dealt(w *watcher, change Change) {
	key := change.Instance.Service + "." + change.Instance.Instance
	r.mu.Lock()
	defer r.mu.Unlock()
	if change.Kind == Removed {
		delete(w.told, key)
	} else {
		w.told[key] = change.Instance
	}
	r.wakeLocked()
}

// wakeLocked makes those look again who wait for watches.
func (r *Registry) wakeLocked() {
	if r.dealing != nil {
		close(r.dealing)
		r.dealing = nil
	}
}

// WaitTold returns when the instance is online here and every running loop over [Registry.Watch] or
// [Registry.WatchAttributes] whose criteria choose it was told so and has come back from that change. A handler that waits for
// the sender of a message that way knows that watchers saw the sender before. The error is why ctx ended; a loop whose body
// does not come back is waited for until then, and for ever in such a body itself.
func (r *Registry) WaitTold(ctx context.Context, service, instance string) error {
	for {
		changed, dealing, told := r.told(service, instance)
		if told {
			return nil
		}
		select {
		case <-changed:
		case <-dealing:
		case <-ctx.Done():
			return fmt.Errorf("registry: wait for %q of %q: %w", instance, service, context.Cause(ctx))
		}
	}
}

// told tells whether all were told that an instance is online, and when to ask again.
func (r *Registry) told(service, instance string) (changed, dealing <-chan struct{}, told bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.Service(service).Instance(instance)
	told = i != nil && i.State == Online
	for w := range r.watchers {
		if !told {
			break
		}
		if w.criteria.Match(i) {
			seen := w.told[service+"."+instance]
			told = seen != nil && seen.State == Online && seen.Session == i.Session
		}
	}
	if told {
		return nil, nil, true
	}
	if r.dealing == nil {
		r.dealing = make(chan struct{})
	}
	return r.changed, r.dealing, false
}
