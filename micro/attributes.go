package micro

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// Bounds of an instance's attributes: how many, how many bytes of JSON each, and with their keys together.
const (
	MaxAttributes     = 64
	MaxAttribute      = 4 << 10
	MaxAttributeBytes = 16 << 10
)

// SetAttribute sets an attribute of this instance: a value that all who see the instance in the registry see, for as long as
// it is announced. key is a token and value what encodes as JSON, within [MaxAttributes], [MaxAttribute] and [MaxAttributeBytes].
// Before [Service.Run] it is kept for the first announcement; later it returns when the record is written.
//
// The error is invalid_argument or resource_exhausted for what cannot be, and failed_precondition once the service stops. Any other
// means that the record was not, or may not have been, written; the service does not have the attribute then.
func (s *Service) SetAttribute(ctx context.Context, key string, value any) error {
	encoded, err := encodeAttribute(key, value)
	if err != nil {
		return err
	}
	return s.changeAttributes(ctx, key, func(json.RawMessage, bool) (json.RawMessage, error) { return encoded, nil })
}

// DeleteAttribute removes an attribute, as [Service.SetAttribute] sets one. To remove what is not there is no error.
func (s *Service) DeleteAttribute(ctx context.Context, key string) error {
	return s.changeAttributes(ctx, key, func(json.RawMessage, bool) (json.RawMessage, error) { return nil, nil })
}

// CompareAndSetAttribute is [Service.SetAttribute] if the attribute's value is old, compared as JSON; nil stands for none, as old
// and as value. Where it is another the error is aborted, and nothing changes. Of concurrent callers with the same old one
// succeeds.
func (s *Service) CompareAndSetAttribute(ctx context.Context, key string, old, value any) error {
	var want, encoded json.RawMessage
	var err error
	if old != nil {
		if want, err = encodeAttribute(key, old); err != nil {
			return err
		}
	}
	if value != nil {
		if encoded, err = encodeAttribute(key, value); err != nil {
			return err
		}
	}
	return s.changeAttributes(ctx, key, func(now json.RawMessage, has bool) (json.RawMessage, error) {
		if has != (want != nil) || !sameJSON(now, want) {
			return nil, bus.Errorf(bus.Aborted, "attribute %q of %s is not what it was", key, s.Address())
		}
		return encoded, nil
	})
}

// Attribute is the attribute's value, and whether there is one. It is shared and must not be changed.
func (s *Service) Attribute(key string) (json.RawMessage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.attributes[key]
	return v, ok
}

// changeAttributes writes what change makes of an attribute: nil is none.
func (s *Service) changeAttributes(ctx context.Context, key string, change func(now json.RawMessage, has bool) (json.RawMessage, error)) error {
	if err := bus.CheckToken("attribute", key); err != nil {
		return err
	}
	select {
	case s.attributing <- struct{}{}:
		defer func() { <-s.attributing }()
	case <-ctx.Done():
		return bus.Errorf(bus.CodeOf(context.Cause(ctx)), "attribute %q: another change takes its time: %w", key, context.Cause(ctx))
	}
	s.mu.Lock()
	stopped, attributes := s.stopped, maps.Clone(s.attributes)
	s.mu.Unlock()
	if stopped {
		return bus.Errorf(bus.FailedPrecondition, "attribute %q: service %q has stopped", key, s.cfg.Name)
	}
	now, has := attributes[key]
	value, err := change(now, has)
	switch {
	case err != nil:
		return err
	case value == nil && !has:
		return nil
	case value == nil:
		delete(attributes, key)
	case has && bytes.Equal(now, value):
		return nil
	default:
		attributes[key] = value
	}
	if err := checkAttributes(attributes); err != nil {
		return err
	}
	if err := s.writeAttributes(ctx, attributes); err != nil {
		return bus.Wrap(bus.Unavailable, "attribute "+key+" of "+s.Address().String()+": "+err.Error(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attributes = attributes
	return nil
}

func (s *Service) writeAttributes(ctx context.Context, attributes map[string]json.RawMessage) error {
	s.updating.Add(1)
	defer s.updating.Add(-1)
	return s.announcer.Update(ctx, func(r *registry.Record) error {
		r.Attributes = attributes
		return nil
	})
}

func encodeAttribute(key string, value any) (json.RawMessage, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "attribute %.80q: a %T does not encode as JSON: %w", key, value, err)
	}
	if len(encoded) > MaxAttribute {
		return nil, bus.Errorf(bus.InvalidArgument, "attribute %.80q has %d bytes of JSON: want at most %d", key, len(encoded), MaxAttribute)
	}
	return encoded, nil
}

func checkAttributes(attributes map[string]json.RawMessage) error {
	size := 0
	for key, value := range attributes {
		size += len(key) + len(value)
	}
	if len(attributes) > MaxAttributes || size > MaxAttributeBytes {
		return bus.Errorf(bus.ResourceExhausted, "%d attributes of %d bytes: want at most %d of %d",
			len(attributes), size, MaxAttributes, MaxAttributeBytes)
	}
	return nil
}

// sameJSON compares values that json.Marshal wrote: it sorts the keys of maps, so that the bytes tell, unless they come from a
// struct or a json.RawMessage.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var va, vb any
	if json.Unmarshal(a, &va) != nil || json.Unmarshal(b, &vb) != nil {
		return false
	}
	ca, erra := json.Marshal(va)
	cb, errb := json.Marshal(vb)
	return erra == nil && errb == nil && bytes.Equal(ca, cb)
}
