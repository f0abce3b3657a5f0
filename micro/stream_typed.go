package micro

import (
	"context"
	"errors"
	"io"
	"iter"
	"reflect"
	"slices"

	"github.com/skybus-io/skybus/bus"
)

// streamSender and streamReceiver are either end of a stream.
type (
	streamSender interface {
		Send(ctx context.Context, data []byte) error
	}
	streamReceiver interface {
		Recv(ctx context.Context) ([]byte, error)
	}
)

var (
	_ streamSender   = (*ServerStream)(nil)
	_ streamReceiver = (*ServerStream)(nil)
	_ streamSender   = (*ClientStream)(nil)
	_ streamReceiver = (*ClientStream)(nil)
)

// Sender sends values as messages of a stream. It is for one goroutine at a time.
type Sender[T any] struct {
	end   streamSender
	codec bus.Codec
}

// Send sends v; a []byte goes as it is. It waits, until ctx ends, while the other side has not read what was sent before.
// io.EOF means that the other side has finished.
func (s *Sender[T]) Send(ctx context.Context, v T) error {
	data, err := encodeMessage(s.codec, v)
	if err != nil {
		return err
	}
	return s.end.Send(ctx, data)
}

// Receiver receives messages of a stream as values. It is for one goroutine at a time.
type Receiver[T any] struct {
	end   streamReceiver
	codec bus.Codec
}

// Recv returns the next value, and io.EOF after the last. It waits until ctx ends.
func (r *Receiver[T]) Recv(ctx context.Context) (T, error) {
	data, err := r.end.Recv(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	v, err := decodeMessage[T](r.codec, data)
	if err != nil {
		return v, misfit("message", r.codec.ContentType(), err)
	}
	return v, nil
}

// All are the values up to the last one; an error other than the end is yielded, and nothing after it.
func (r *Receiver[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := r.Recv(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

func encodeMessage(codec bus.Codec, v any) ([]byte, error) {
	if data, raw := rawBytes(v); raw {
		return data, nil
	}
	data, err := codec.Marshal(v)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "message of type %T does not encode as %s: %w", v, codec.ContentType(), err)
	}
	return data, nil
}

// decodeMessage reads data as a T: a []byte is it as it is, no data the zero value, and a pointer points to something.
func decodeMessage[T any](codec bus.Codec, data []byte) (T, error) {
	var v T
	var target any = &v
	if b, ok := target.(*[]byte); ok {
		*b = slices.Clip(data) // nobody else keeps it
		return v, nil
	}
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer {
		v = reflect.New(t.Elem()).Interface().(T)
		target = v
	}
	if len(data) == 0 {
		return v, nil
	}
	return v, codec.Unmarshal(data, target)
}
