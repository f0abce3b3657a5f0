package micro_test

import (
	"context"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func TestRemote(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for version, region := range map[string]string{"1.0.0": "eu", "2.0.0": "us"} {
		serve(t, connect(t, s), micro.Config{Name: "greeter", Version: version, Region: region, Instance: region}, endpoints(
			endpoint("hello", greet), endpoint("are", func(ctx context.Context, _ hello) (string, error) { return micro.Info(ctx).Instance, nil }),
		))
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "greeter", 2)
	opts := []micro.CallOption{micro.ToVersion("2.0.0"), micro.ToRegion("us")}
	r := c.Service("greeter", opts...)
	opts[0] = micro.ToVersion("3.0.0") // is the caller's own
	for range 10 {
		var id string
		if err := r.Call(t.Context(), "are", hello{}, &id); err != nil || id != "us" {
			t.Fatalf("%q, %v", id, err)
		}
	}
	var id string
	if err := r.SendOnce(t.Context(), "are", hello{}, &id, micro.ToVersion("1.0.0"), micro.ToRegion("eu")); err != nil || id != "eu" {
		t.Errorf("the call's own options: %q, %v", id, err)
	}
	var got greeting
	if err := r.Send(t.Context(), "hello", hello{Name: "you"}, &got); err != nil || got.Text != "Hello you" {
		t.Errorf("%+v, %v", got, err)
	}
	var raw []byte
	if err := r.Call(t.Context(), "are", hello{}, &raw); err != nil || string(raw) != "\xa2us" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := r.Call(t.Context(), "are", hello{}, nil); err != nil || r.Name() != "greeter" {
		t.Error(err)
	}
	wantCode(t, r.Call(t.Context(), "are", hello{}, got), bus.InvalidArgument, "pointer")
	wantCode(t, r.Call(t.Context(), "are", hello{}, (*greeting)(nil)), bus.InvalidArgument, "pointer")
	wantCode(t, r.Call(t.Context(), "a.b", hello{}, &got), bus.InvalidArgument, "endpoint")
	wantCode(t, c.Service("a.b").Call(t.Context(), "x", hello{}, &got), bus.InvalidArgument, "service")
	wantCode(t, c.Service("a.b").Notify(t.Context(), "x", hello{}), bus.InvalidArgument)
}
