package protobuf_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/bus/protobuf"
	"github.com/skybus-io/skybus/micro"
)

var _ bus.Codec = protobuf.Codec{}

func TestCodec(t *testing.T) {
	t.Parallel()
	data, err := protobuf.Codec{}.Marshal(wrapperspb.String("hello"))
	if err != nil {
		t.Fatal(err)
	}
	var into wrapperspb.StringValue
	var pointer *wrapperspb.StringValue
	if err := (protobuf.Codec{}).Unmarshal(data, &into); err != nil || into.GetValue() != "hello" {
		t.Errorf("into a message: %q, %v", into.GetValue(), err)
	}
	if err := (protobuf.Codec{}).Unmarshal(data, &pointer); err != nil || pointer.GetValue() != "hello" {
		t.Errorf("into a pointer: %q, %v", pointer.GetValue(), err)
	}
	if data, err := (protobuf.Codec{}).Marshal(nil); err != nil || len(data) != 0 {
		t.Errorf("nil: %x, %v", data, err)
	}
}

func TestCodecRefuses(t *testing.T) {
	t.Parallel()
	if _, err := (protobuf.Codec{}).Marshal("text"); err == nil {
		t.Error("a string was encoded")
	}
	before := wrapperspb.String("before")
	into := before
	var text string
	for name, v := range map[string]any{"garbage": &into, "no message": &text, "nil": nil, "nil pointer": (**wrapperspb.StringValue)(nil)} {
		if err := (protobuf.Codec{}).Unmarshal([]byte{0x0a, 0xff}, v); err == nil {
			t.Errorf("%s was decoded", name)
		}
	}
	if into != before {
		t.Error("a message that does not decode replaced the one before")
	}
}

// A service and its caller speak it, and an error keeps its details though they are no message.
func TestOverTheBus(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv, Codec: protobuf.Codec{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := micro.NewService(conn, micro.Config{Name: "greeter"})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(s, "hello", func(_ context.Context, req *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		if req.GetValue() == "" {
			return nil, bus.Errorf(bus.InvalidArgument, "nobody to greet").With("field", "value")
		}
		return wrapperspb.String("hello " + req.GetValue()), nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	got, err := micro.Call[*wrapperspb.StringValue](t.Context(), client, "greeter.hello", wrapperspb.String("bus"))
	if err != nil || !proto.Equal(got, wrapperspb.String("hello bus")) {
		t.Errorf("answered %v, %v", got, err)
	}
	_, err = micro.Call[*wrapperspb.StringValue](t.Context(), client, "greeter.hello", wrapperspb.String(""))
	e, ok := errors.AsType[*bus.Error](err)
	if !ok || e.Code != bus.InvalidArgument || e.Details["field"] != "value" {
		t.Errorf("error %v with details %v", err, bus.AsError(err).Details)
	}
}
