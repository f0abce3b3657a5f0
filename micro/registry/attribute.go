package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Attribute reads an attribute of i into a T, and tells whether there is one. The error says that its value is no T. Where
// instances change their attributes: [Announcer.Update].
func Attribute[T any](i *Instance, key string) (value T, ok bool, err error) {
	raw, ok := i.Attributes[key]
	if !ok {
		return value, false, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		var zero T
		return zero, true, fmt.Errorf("registry: attribute %q of %s/%s: %w", key, i.Service, i.Instance, err)
	}
	return value, true, nil
}

// AttributeChange is a new value of an attribute.
type AttributeChange struct {
	// Instance is as it is now, or as it was last for one that is gone.
	Instance *Instance
	Key      string
	Value    json.RawMessage // nil for one that was deleted
	Deleted  bool
}

// WatchAttributes tells of the attributes of the instances that c chooses: first of each that there is, then of every one
// that is set to another value or deleted, until ctx ends or the loop is left. An instance that goes takes its attributes
// along; one that is only offline keeps them. Who is slow is told the last value only, as by [Registry.Watch].
func (r *Registry) WatchAttributes(ctx context.Context, c Criteria) iter.Seq[AttributeChange] {
	return func(yield func(AttributeChange) bool) {
		told := map[string]map[string]json.RawMessage{}
		for change := range r.Watch(ctx, c) {
			i := change.Instance
			key := i.Service + "." + i.Instance
			var now map[string]json.RawMessage
			if change.Kind != Removed {
				now = i.Attributes
			}
			for _, ac := range attributeChanges(i, told[key], now) {
				if !yield(ac) {
					return
				}
			}
			if told[key] = now; len(now) == 0 {
				delete(told, key)
			}
		}
	}
}

// attributeChanges are the differences, by key.
func attributeChanges(i *Instance, before, now map[string]json.RawMessage) []AttributeChange {
	var changes []AttributeChange
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if old, known := before[key]; !known || !bytes.Equal(old, now[key]) {
			changes = append(changes, AttributeChange{Instance: i, Key: key, Value: now[key]})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, kept := now[key]; !kept {
			changes = append(changes, AttributeChange{Instance: i, Key: key, Deleted: true})
		}
	}
	return changes
}
