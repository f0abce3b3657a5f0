package registry

import (
	"cmp"
	"context"
	"iter"
	"slices"
)

// Change is something that happened to an instance.
type Change struct {
	Kind ChangeKind
	// Instance is as it is now, or as it was last for one that is gone.
	Instance *Instance
}

// ChangeKind says what happened.
type ChangeKind string

// What happens to an instance that criteria choose.
const (
	Added   ChangeKind = "added"   // it appeared, or met the criteria from now on
	Changed ChangeKind = "changed" // its record or its state changed
	Removed ChangeKind = "removed" // its record is gone, or it no longer meets the criteria
)

// Watch tells of the instances that c chooses: first of each that there is, as Added, and then of every change until ctx
// ends or the loop is left. An instance that stops giving signs of life is Changed, its State being Offline; it is Removed
// when its record is. Who is slow misses what was in between: of an instance only the last state is told, and of one that
// came and went nothing. A load is no change.
func (r *Registry) Watch(ctx context.Context, c Criteria) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		w := r.watching(c)
		defer r.unwatch(w)
		for {
			changed := r.Changed()
			for _, change := range r.changes(c, w.told) {
				if !yield(change) {
					return
				}
				r.dealt(w, change)
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}

// changes is what is new since told, which it leaves alone.
func (r *Registry) changes(c Criteria, told map[string]*Instance) []Change {
	var changes []Change
	present := map[string]struct{}{}
	for _, i := range r.Instances(c) {
		key := i.Service + "." + i.Instance
		present[key] = struct{}{}
		before, known := told[key]
		switch {
		case !known:
			changes = append(changes, Change{Added, i})
		case before.revision != i.revision || before.Session != i.Session || before.State != i.State:
			changes = append(changes, Change{Changed, i})
		}
	}
	gone := len(changes)
	for key, i := range told {
		if _, ok := present[key]; !ok {
			changes = append(changes, Change{Removed, i})
		}
	}
	slices.SortFunc(changes[gone:], func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Instance.Service, b.Instance.Service), byID(a.Instance, b.Instance))
	})
	return changes
}
