package micro_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// An endpoint says in the record and to ADR-32 that it is internal, and is called as any other.
func TestInternal(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	serve(t, conn, micro.Config{Name: "shop"}, endpoints(
		endpoint("greet", greet),
		endpoint("purge", greet, micro.Internal(), micro.Description("Forgets all.")),
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "shop", 1)
	for name, want := range map[string]bool{"greet": false, "purge": true} {
		e, err := c.Lookup(t.Context(), micro.Request{Service: "shop", Endpoint: name})
		if err != nil || e.Name != name || e.Internal != want || (e.Description == "Forgets all.") != want || e.Request == nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		if _, err := micro.Call[greeting](t.Context(), c, "shop."+name, hello{Name: "x"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	msg, err := s.Connect(t).Request("$SRV.INFO.shop", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info natsmicro.Info
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		t.Fatal(err)
	}
	for _, e := range info.Endpoints {
		if got := e.Metadata[micro.MetadataInternal]; got != map[string]string{"purge": "true"}[e.Name] {
			t.Errorf("%s: metadata %v", e.Name, e.Metadata)
		}
	}
}

func TestDescriptionTooLong(t *testing.T) {
	t.Parallel()
	svc, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, micro.Handle(svc, "greet", greet, micro.Description(strings.Repeat("x", registry.MaxDescription+1))), bus.InvalidArgument, "at most 1024")
	if err := micro.Handle(svc, "greet", greet, micro.Description(strings.Repeat("x", registry.MaxDescription))); err != nil {
		t.Error(err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	adds := func(internal ...micro.EndpointOption) func(*micro.Service) error {
		return endpoint("get", greet, append(internal, micro.Idempotent())...)
	}
	serve(t, conn, micro.Config{Name: "shop", Instance: "one", Version: "1.0.0"}, adds())
	serve(t, conn, micro.Config{Name: "shop", Instance: "two", Version: "2.0.0"}, adds(micro.Internal()))
	off := serve(t, conn, micro.Config{Name: "shop", Instance: "off", Version: "3.0.0"}, adds(micro.Internal()))
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: 50 * time.Millisecond})
	sees(t, c, "shop", 3)
	if err := off.SetRegistered(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	sees(t, c, "shop", 2)
	for _, test := range []struct {
		version, instance, endpoint string
		internal                    bool
		code                        bus.Code
	}{
		{"", "", "get", true, ""},
		{"1.0.0", "", "get", false, ""},
		{"2.0.0", "", "get", true, ""},
		{"", "one", "get", false, ""},
		{"", "two", "get", true, ""},
		{"", "off", "get", true, ""}, // takes requests by its name
		{"3.0.0", "", "get", true, ""},
		{"", "", "put", false, bus.NotFound},
		{"1.0.0", "", "put", false, bus.NotFound},
		{"", "off", "put", false, bus.NotFound},
		{"4.0.0", "", "get", false, bus.Unavailable},
		{"", "none", "get", false, bus.Unavailable},
		{"1.0.0", "two", "get", false, bus.Unavailable},
		{"", "", "a.b", false, bus.InvalidArgument},
		{"x", "", "get", false, bus.InvalidArgument},
	} {
		e, err := c.Lookup(t.Context(), micro.Request{Service: "shop", Endpoint: test.endpoint, Version: test.version, Instance: test.instance})
		if bus.CodeOf(err) != test.code || e.Internal != test.internal || err == nil && !e.Idempotent {
			t.Errorf("%+v: %+v, %v", test, e, err)
		}
	}
}

// A service that is not there yet is waited for, whoever wrote it.
func TestLookupWaits(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: patience})
	look := func(service string) <-chan error {
		found := make(chan error, 1)
		go func() {
			_, err := c.Lookup(t.Context(), micro.Request{Service: service, Endpoint: "echo"})
			found <- err
		}()
		return found
	}
	ours, theirs := look("ours"), look("theirs")
	serve(t, connect(t, s), micro.Config{Name: "ours"}, endpoints(endpoint("echo", greet)))
	serveForeign(t, s, "theirs", map[string]natsmicro.HandlerFunc{"echo": func(r natsmicro.Request) { _ = r.Respond(r.Data()) }})
	for name, found := range map[string]<-chan error{"ours": ours, "theirs": theirs} {
		if err := bustest.Receive(t, name, found); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Lookup(ctx, micro.Request{Service: "nobody", Endpoint: "echo"}); bus.CodeOf(err) != bus.Canceled {
		t.Error(err)
	}
}

// Services of other libraries mark their endpoints by metadata.
func TestLookupForeign(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc, err := natsmicro.AddService(s.Connect(t), natsmicro.Config{Name: "sums", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Stop() }) // the connection may be closed
	echo := natsmicro.HandlerFunc(func(r natsmicro.Request) { _ = r.Respond(r.Data()) })
	for _, err := range []error{
		svc.AddEndpoint("add", echo, natsmicro.WithEndpointSubject("sums.add")),
		svc.AddEndpoint("purge", echo, natsmicro.WithEndpointSubject("sums.purge"), natsmicro.WithEndpointMetadata(map[string]string{micro.MetadataInternal: "true"})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	for _, test := range []struct {
		endpoint, version string
		want              registry.Endpoint
		code              bus.Code
	}{
		{"add", "", registry.Endpoint{Name: "add"}, ""},
		{"purge", "", registry.Endpoint{Name: "purge", Internal: true}, ""},
		{"add", "1.2.3", registry.Endpoint{Name: "add"}, ""},
		{"other", "", registry.Endpoint{}, bus.NotFound},
		{"add", "2.0.0", registry.Endpoint{}, bus.Unavailable},
	} {
		e, err := c.Lookup(t.Context(), micro.Request{Service: "sums", Endpoint: test.endpoint, Version: test.version, Patience: -1})
		if test.code == "" && bus.CodeOf(err) == bus.Unavailable {
			e, err = c.Lookup(t.Context(), micro.Request{Service: "sums", Endpoint: test.endpoint, Version: test.version}) // on a busy machine
		}
		if bus.CodeOf(err) != test.code || e.Name != test.want.Name || e.Internal != test.want.Internal {
			t.Errorf("%+v: %+v, %v", test, e, err)
		}
	}
}
