package kv_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestKeyError(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	_, err := table.Get(t.Context(), "a.b")
	e, ok := errors.AsType[*kv.KeyError](err)
	if !ok || e.Key != "a.b" || e.Bucket != "widgets" || e.Op != "get" {
		t.Fatalf("%#v", err)
	}
	if want := `kv: get "a.b" in "widgets": not found`; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestNilKeyError(t *testing.T) {
	t.Parallel()
	var e *kv.KeyError
	if e.Error() == "" || e.Unwrap() != nil || errors.Is(e, kv.ErrNotFound) {
		t.Error("a nil KeyError is something")
	}
	if _, ok := errors.AsType[*bus.Error](error(e)); ok {
		t.Error("a nil KeyError has a code")
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code bus.Code
		http int
	}{
		{kv.ErrNotFound, bus.NotFound, 404},
		{kv.ErrExists, bus.AlreadyExists, 409},
		{&kv.HeldError{}, bus.AlreadyExists, 409},
		{kv.ErrConflict, bus.Aborted, 409},
		{kv.ErrFull, bus.ResourceExhausted, 507},
		{kv.ErrTooLarge, bus.ResourceExhausted, 413},
		{kv.ErrBadKey, bus.InvalidArgument, 400},
		{context.Canceled, bus.Canceled, 499},
		{context.DeadlineExceeded, bus.DeadlineExceeded, 504},
		{errors.New("else"), bus.Unknown, 500},
	} {
		err := &kv.KeyError{Op: "put", Bucket: "b", Key: "k", Err: fmt.Errorf("wrapped: %w", c.err)}
		e := bus.AsError(err)
		if e.Code != c.code || e.HTTPStatus() != c.http || e.Message != err.Error() || !errors.Is(e, c.err) {
			t.Errorf("%v is %s, %d, %q", c.err, e.Code, e.HTTPStatus(), e.Message)
		}
	}
}
