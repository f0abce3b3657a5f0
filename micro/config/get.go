package config

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"sync/atomic"
)

// maxCells is how many different reads (type, scope and key) are kept decoded. Further ones decode each time, and keep no
// last good value.
const maxCells = 4096

// Option changes a read.
type Option[T any] func(*cell[T])

// Check refuses values: one for which f has an error is as if it did not parse. f belongs to the key: of several checks for
// the same key, scope and type the first that is given is used. It is called when a value is read for the first time and
// when it has changed, possibly by several at once, and must not wait for anything: changes wait for it.
func Check[T any](f func(T) error) Option[T] {
	return func(c *cell[T]) { c.check = f }
}

// Get is the effective value of key for scope, or def when there is none that can be used. It takes a fraction of a
// microsecond and no message, save for the first read after a change.
//
// JSON is read as encoding/json does, with these additions: a time.Duration is text as in 1.5s, see also [Duration]; a string
// takes a number or a bool as it is written; null is no value. What is returned may be shared with other readers:
// who gets a map or a slice must not change it.
func Get[T any](v *Values, scope Scope, key string, def T, opts ...Option[T]) T {
	if r := cellFor(v, scope, key, opts).read(v); r.set {
		return r.value
	}
	return def
}

// Watch yields the effective value as [Get] returns it, at once, and again whenever it has changed, until ctx ends, v is
// closed or the loop is left. It also tells when a value goes and a wider scope, a layer or def takes its place. Who is slow
// misses what was in between.
func Watch[T any](ctx context.Context, v *Values, scope Scope, key string, def T, opts ...Option[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		var told []byte
		for first := true; ; first = false {
			changed := v.Changed()
			now := Get(v, scope, key, def, opts...)
			text, err := json.Marshal(now)
			if first || err != nil || !bytes.Equal(text, told) {
				told = text
				if ctx.Err() != nil || !yield(now) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-v.closed:
				return
			case <-changed:
			}
		}
	}
}

// cellID tells reads apart.
type cellID struct {
	of      any // a nil pointer to the type
	scope   Scope
	key     string
	checked bool
}

// refresher is a cell of any type.
type refresher interface{ refresh(v *Values) }

// cell is what is known of one read. After the first it is read again with each change, so that what is good is known also
// when nobody asks before it is followed by what is not.
type cell[T any] struct {
	scope Scope
	key   string
	check func(T) error
	last  atomic.Pointer[reading[T]]
}

// reading is what a read gave in one state. It does not change.
type reading[T any] struct {
	state *state
	value T
	set   bool
	kept  []kept[T] // by source: the scopes in the bucket, then the layers
}

// kept is what a source has.
type kept[T any] struct {
	of   *value // the last that was looked at
	good bool   // there was one that could be used:
	last T
}

func cellFor[T any](v *Values, scope Scope, key string, opts []Option[T]) *cell[T] {
	id := cellID{(*T)(nil), scope, key, len(opts) > 0}
	if c, ok := (*v.cells.Load())[id].(*cell[T]); ok {
		return c
	}
	c := &cell[T]{scope: scope, key: key}
	for _, o := range opts {
		o(c)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	cells := *v.cells.Load()
	if known, ok := cells[id].(*cell[T]); ok {
		return known
	}
	if len(cells) < maxCells {
		cells = maps.Clone(cells)
		cells[id] = c
		v.cells.Store(&cells)
	}
	return c
}

func (c *cell[T]) refresh(v *Values) { c.read(v) }

func (c *cell[T]) read(v *Values) *reading[T] {
	for {
		s, last := v.state.Load(), c.last.Load()
		if last != nil && last.state == s {
			return last
		}
		if next := c.look(v, s, last); c.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// look reads c in a state. The last reading knows what was good before.
func (c *cell[T]) look(v *Values, s *state, last *reading[T]) *reading[T] {
	scopes, n := c.scope.wider()
	r := &reading[T]{state: s, kept: make([]kept[T], n+len(v.layers))}
	if last != nil {
		copy(r.kept, last.kept)
	}
	of := s.values[c.key]
	for i := range r.kept {
		k := &r.kept[i]
		switch {
		case i < n:
			k.take(c, v, of[scopes[i]])
		case last == nil:
			if raw, ok := v.layers[i-n].Setting(c.scope.Service, c.scope.Version, c.key); ok {
				k.take(c, v, &value{raw: raw})
			}
		}
		if k.good && !r.set {
			r.value, r.set = k.last, true
		}
	}
	return r
}

// take looks at the value that the source has now, nil for none.
func (k *kept[T]) take(c *cell[T], v *Values, val *value) {
	switch val {
	case nil:
		*k = kept[T]{}
		return
	case k.of:
		return
	}
	k.of = val
	var decoded T
	reason := "it does not parse"
	err := decode(val.raw, &decoded)
	if err == nil && c.check != nil {
		reason = "its check refused it"
		err = c.check(decoded)
	}
	if err == nil {
		k.last, k.good = decoded, true
		return
	}
	if !val.rejected.Swap(true) {
		v.rejected.Add(1)
		v.log.Warn("value in the configuration is not used", "service", c.scope.Service, "version", c.scope.Version, "key", c.key,
			"type", fmt.Sprintf("%T", decoded), "reason", reason)
	}
}
