package mirror

import (
	"context"
	"iter"
	"slices"

	"github.com/skybus-io/skybus/bus"
)

// Drained is how far backends have come with the writes that were stored when it was asked.
type Drained struct {
	// Last is the last of those writes, 0 when there are none.
	Last uint64 `json:"last"`
	// Done tells whether all these backends have applied them.
	Done     bool        `json:"done"`
	Backends []Condition `json:"backends"`
}

// Drain yields how far backends have come with what is stored now: at once, with each change, and for the last time when they have applied all of
// it or ctx ends. Without names it is about those that are active, not in maintenance and not out of use; one of these states is
// failed_precondition where a backend is named. It neither sends nor stops anything.
func (m *Mirror) Drain(ctx context.Context, names ...string) iter.Seq2[Drained, error] {
	return func(yield func(Drained, error) bool) {
		last, err := m.lastWrite(ctx)
		if err != nil {
			yield(Drained{}, err)
			return
		}
		for {
			changed := m.Changed()
			d, err := m.drained(last, names)
			if err != nil {
				yield(d, err)
				return
			}
			if !yield(d, nil) || d.Done {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (m *Mirror) drained(last uint64, names []string) (Drained, error) {
	d := Drained{Last: last, Done: true, Backends: []Condition{}}
	missing := slices.Clone(names)
	for _, c := range m.Conditions() {
		named := slices.Contains(names, c.Name)
		why := ""
		switch {
		case len(names) > 0 && !named:
			continue
		case !c.Active:
			why = "it is not active"
		case c.State == StateGap:
			why = "it lacks writes that are gone: give it another's data, then set it again with from"
		case c.Maintenance:
			why = "it is in maintenance"
		}
		if why != "" {
			if named {
				return d, bus.Errorf(bus.FailedPrecondition, "mirror: backend %q is sent nothing: %s", c.Name, why)
			}
			continue
		}
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == c.Name })
		d.Done = d.Done && c.Applied >= last
		d.Backends = append(d.Backends, c)
	}
	if len(missing) > 0 {
		return d, bus.Errorf(bus.NotFound, "mirror: there is no backend %q", missing[0])
	}
	return d, nil
}
