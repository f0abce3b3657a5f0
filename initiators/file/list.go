package file

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Status is a source as the bucket knows it.
type Status struct {
	Name string `json:"name"`
	// Owner is who works on it now; empty for nobody.
	Owner string `json:"owner"`
	// Summary is what the last process that worked on it said, a second after it changed; nil where there was none.
	Summary *Summary `json:"summary,omitempty"`
	// Files are the checkpoints there are, by name: of files that are not finished, or stay where they are.
	Files []Checkpoint `json:"files"`
}

// List reads the state of all sources of the namespace, by name. Where no source has ever run there are none.
func List(ctx context.Context, conn *bus.Conn) ([]Status, error) {
	table, err := kv.Open[row](ctx, conn, Bucket, kv.Config{Bind: true, NoExpiry: true})
	if errors.Is(err, kv.ErrNoBucket) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	byName := map[string]*Status{}
	of := func(name string) *Status {
		if byName[name] == nil {
			byName[name] = &Status{Name: name, Files: []Checkpoint{}}
		}
		return byName[name]
	}
	prefix := conn.Namespace().String() + "."
	for e, err := range table.List(ctx, prefix+">") {
		if err != nil {
			return nil, err
		}
		parts := strings.Split(strings.TrimPrefix(e.Key, prefix), ".")
		switch {
		case e.Err != nil:
		case len(parts) == 2 && e.Value.Source != nil:
			of(parts[1]).Summary = e.Value.Source
		case len(parts) == 3 && e.Value.File != nil:
			e.Value.File.Updated = e.Created
			of(parts[1]).Files = append(of(parts[1]).Files, *e.Value.File)
		}
	}
	leases, err := kv.OpenLeases(ctx, conn)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(byName))
	for name, s := range byName {
		holder, err := leases.Holder(ctx, conn.Namespace().Key(leaseKind, name))
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return nil, err
		}
		s.Owner = holder.Owner
		slices.SortFunc(s.Files, func(a, b Checkpoint) int { return strings.Compare(a.File, b.File) })
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Forget removes all that is kept of a source: when it runs again, it begins anew. It is failed_precondition while a process works on it.
func Forget(ctx context.Context, conn *bus.Conn, name string) error {
	if err := bus.CheckToken("source", name); err != nil {
		return err
	}
	leases, err := kv.OpenLeases(ctx, conn)
	if err != nil {
		return err
	}
	holder, err := leases.Holder(ctx, conn.Namespace().Key(leaseKind, name))
	if err == nil {
		return bus.Errorf(bus.FailedPrecondition, "source %q is being worked on by %s: stop that first", name, holder.Owner)
	}
	if !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	table, err := kv.Open[row](ctx, conn, Bucket, kv.Config{Bind: true, NoExpiry: true})
	if err != nil {
		if errors.Is(err, kv.ErrNoBucket) {
			return noSource(name)
		}
		return err
	}
	found := false
	for _, pattern := range []string{conn.Namespace().Key("file", name, "*"), conn.Namespace().Key("source", name)} {
		for e, err := range table.List(ctx, pattern) {
			if err != nil {
				return err
			}
			found = true
			if err := table.Delete(ctx, e.Key); err != nil {
				return err
			}
		}
	}
	if !found {
		return noSource(name)
	}
	return nil
}

func noSource(name string) error {
	return bus.Errorf(bus.NotFound, "nothing is kept of a source %q", name)
}
