package route

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// WriteOption adjusts how a [Store] writes.
type WriteOption func(*writeOptions)

type writeOptions struct {
	force    bool
	revision uint64
}

func optionsOf(opts []WriteOption) (o writeOptions) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Force stores a route that names routes which do not exist, and removes one that others name.
func Force() WriteOption { return func(o *writeOptions) { o.force = true } }

// IfRevision removes a route only where it has that revision, else the error has the code aborted. 0 means any.
func IfRevision(revision uint64) WriteOption { return func(o *writeOptions) { o.revision = revision } }

// uses are the routes that r has as steps, each once.
func (r Route) uses() []string {
	var names []string
	for _, s := range r.Steps {
		if s.Route != "" && !slices.Contains(names, s.Route) {
			names = append(names, s.Route)
		}
	}
	return names
}

// checkNesting finds what is wrong with the routes that r, to be stored as name, has within. Others may be edited meanwhile:
// what runs a route checks again.
func (s *Store) checkNesting(ctx context.Context, name string, r Route, o writeOptions) error {
	if len(r.uses()) == 0 {
		return nil
	}
	all := map[string]Route{}
	for other, err := range s.List(ctx) {
		if err != nil {
			return err
		}
		all[other.Name] = other.Route // what cannot be read leads nowhere, and is there
	}
	all[name] = r
	var errs []string
	for i, step := range r.Steps {
		if _, ok := all[step.Route]; step.Route == "" || ok || o.force {
			continue
		}
		errs = append(errs, fmt.Sprintf("steps[%d].route: there is no route %q", i, step.Route))
	}
	if len(errs) > 0 {
		return bus.Errorf(bus.FailedPrecondition, "route %q: %s", name, strings.Join(errs, "; ")).
			With("route", name).With("missing", strconv.Itoa(len(errs)))
	}
	w := walk{all: all, done: map[string]int{}}
	if _, err := w.depth([]string{name}); err != nil {
		return bus.Errorf(bus.FailedPrecondition, "route %q: %w", name, err).With("route", name)
	}
	above := w.above(name, map[string]int{})
	if depth := above + w.done[name]; depth > MaxDepth {
		return bus.Errorf(bus.FailedPrecondition, "route %q: routes would be nested %d deep: want at most %d", name, depth, MaxDepth).With("route", name)
	}
	return nil
}

// walk goes through routes and those within them.
type walk struct {
	all  map[string]Route
	done map[string]int // how many routes are on the longest way down from one, itself included
}

// depth is done of the last of path.
func (w *walk) depth(path []string) (int, error) {
	name := path[len(path)-1]
	if i := slices.Index(path, name); i < len(path)-1 {
		return 0, fmt.Errorf("it leads back to itself: %s", arrows(path[i:]))
	}
	if n, ok := w.done[name]; ok {
		return n, nil
	}
	longest := 0
	for _, next := range w.all[name].uses() {
		n, err := w.depth(append(slices.Clip(path), next))
		if err != nil {
			return 0, err
		}
		longest = max(longest, n)
	}
	w.done[name] = longest + 1
	return longest + 1, nil
}

// above is how many routes are on the longest way down to name, itself not included.
func (w *walk) above(name string, seen map[string]int) int {
	if n, ok := seen[name]; ok {
		return n
	}
	seen[name] = 0 // routes that somebody forced into a circle elsewhere end here
	longest := 0
	for other, r := range w.all {
		if slices.Contains(r.uses(), name) {
			longest = max(longest, w.above(other, seen)+1)
		}
	}
	seen[name] = longest
	return longest
}

// checkUnused fails when other routes have name as a step.
func (s *Store) checkUnused(ctx context.Context, name string) error {
	var users []string
	for other, err := range s.List(ctx) {
		if err != nil {
			return err
		}
		if other.Name != name && slices.Contains(other.Route.uses(), name) {
			users = append(users, other.Name)
		}
	}
	if len(users) == 0 {
		return nil
	}
	slices.Sort(users)
	return bus.Errorf(bus.FailedPrecondition, "route %q is a step of %s", name, strings.Join(users, ", ")).
		With("route", name).With("used_by", strings.Join(users, ","))
}
