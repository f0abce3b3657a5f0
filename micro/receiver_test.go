package micro_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// widgets has every shape.
type widgets struct{ prefix string }

func (w *widgets) Get(_ context.Context, req *hello) (*greeting, error) {
	return &greeting{w.prefix + req.Name}, nil
}

func (w *widgets) GetByValue(_ context.Context, req hello) (greeting, error) {
	return greeting{w.prefix + req.Name}, nil
}

func (w *widgets) Mixed(_ context.Context, req *hello) (greeting, error) {
	return greeting{w.prefix + req.Name}, nil
}

func (w *widgets) Complete(_ context.Context, req *hello, resp *greeting) error {
	resp.Text += w.prefix + req.Name
	return nil
}

func (w *widgets) Fail(context.Context, *hello) (*greeting, error) {
	return nil, bus.Errorf(bus.NotFound, "no widgets")
}

func (w *widgets) FailToComplete(_ context.Context, _ *hello, resp *greeting) error {
	resp.Text = "half"
	return bus.Errorf(bus.NotFound, "no widgets")
}

func (w *widgets) Bytes(_ context.Context, b []byte) ([]byte, error) { return b, nil }

func (w *widgets) Fall(context.Context, *hello) (*greeting, error) { panic("over") }

func (w *widgets) Close() error { return nil } // none of the shapes

func TestRegister(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "w"}, func(s *micro.Service) error {
		return s.Register(&widgets{prefix: "-"}, micro.Except("Close"), micro.Endpoints(micro.Concurrency(7), micro.Idempotent()))
	})
	var names []string
	for _, ep := range svc.Stats().Endpoints {
		names = append(names, ep.Name)
		if ep.Limit != 7 {
			t.Errorf("%s handles %d at a time, want 7", ep.Name, ep.Limit)
		}
	}
	if want := []string{"bytes", "complete", "fail", "failToComplete", "fall", "get", "getByValue", "mixed"}; !slices.Equal(names, want) {
		t.Errorf("endpoints %v, want %v", names, want)
	}
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}} {
		c := newClient(t, connect(t, s, func(cfg *bus.Config) { cfg.Codec = codec }), micro.ClientConfig{})
		for _, ep := range []string{"get", "getByValue", "mixed", "complete"} {
			roundTrip(t, c, "w."+ep, hello{Name: "x"}, greeting{"-x"})
			roundTrip(t, c, "w."+ep, nil, greeting{"-"})
		}
		roundTrip(t, c, "w.bytes", []byte{0xc1}, []byte{0xc1})
		for _, ep := range []string{"fail", "failToComplete"} {
			got, err := micro.Call[greeting](t.Context(), c, "w."+ep, hello{})
			wantCode(t, err, bus.NotFound, "no widgets")
			if got != (greeting{}) {
				t.Errorf("%s: the error comes with %v", ep, got)
			}
		}
		_, err := micro.Call[greeting](t.Context(), c, "w.fall", hello{})
		wantCode(t, err, bus.Internal, "w.fall panicked")
		_, err = micro.Call[greeting](t.Context(), c, "w.get", []string{"x"})
		wantCode(t, err, bus.InvalidArgument, "request is not")
		sees(t, c, "w", 1)
		for _, ep := range c.Registry().Service("w").Online[0].Endpoints {
			if amends := ep.Name == "complete" || ep.Name == "failToComplete"; ep.Amends != amends || !ep.Idempotent || ep.OneWay {
				t.Errorf("%+v", ep)
			}
		}
	}
}

type (
	noMethods   struct{}
	noContext   struct{}
	noError     struct{}
	noResponse  struct{}
	tooMany     struct{}
	variadic    struct{}
	byValue     struct{}
	oneGood     struct{ *widgets }
	locked      struct{ sync.Mutex }
	nameless    struct{}
	valueMethod struct{ prefix string }
)

func (noContext) Get(*hello) (*greeting, error)                           { return nil, nil }
func (noError) Get(context.Context, *hello) *greeting                     { return nil }
func (noResponse) Get(context.Context, *hello) error                      { return nil }
func (tooMany) Get(context.Context, *hello, *greeting) (*greeting, error) { return nil, nil }
func (variadic) Get(context.Context, ...*hello) (*greeting, error)        { return nil, nil }
func (byValue) Get(context.Context, hello, greeting) error                { return nil }
func (nameless) Größe(context.Context, *hello) (*greeting, error)         { return nil, nil }
func (nameless) Aaa(context.Context, *hello) (*greeting, error)           { return nil, nil }
func (v valueMethod) Get(_ context.Context, req *hello) (*greeting, error) {
	return &greeting{v.prefix + req.Name}, nil
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	const shapes = "(context.Context, *Request) (*Response, error) or (context.Context, *Request, *Response) error"
	for _, c := range []struct {
		receiver any
		opts     []micro.ReceiverOption
		parts    []string
	}{
		{nil, nil, []string{"the receiver is nil"}},
		{(*widgets)(nil), []micro.ReceiverOption{micro.Except("Close")}, []string{"the receiver is nil", "*micro_test.widgets"}},
		{noMethods{}, nil, []string{"micro_test.noMethods has no exported methods", shapes}},
		{struct{}{}, nil, []string{"has no exported methods"}},
		{widgets{}, nil, []string{"micro_test.widgets", "pointer"}},
		{noContext{}, nil, []string{"method micro_test.noContext.Get is func(*micro_test.hello) (*micro_test.greeting, error)", shapes}},
		{noError{}, nil, []string{"noError.Get", "func(context.Context, *micro_test.hello) *micro_test.greeting", shapes}},
		{noResponse{}, nil, []string{"noResponse.Get", shapes}},
		{tooMany{}, nil, []string{"tooMany.Get", shapes}},
		{variadic{}, nil, []string{"variadic.Get", "...*micro_test.hello", shapes}},
		{byValue{}, nil, []string{"byValue.Get", shapes}},
		{&widgets{}, nil, []string{"*micro_test.widgets.Close", "func() error", shapes, "micro.Except"}},
		{&oneGood{&widgets{}}, nil, []string{"*micro_test.oneGood.Close"}},
		{&locked{}, nil, []string{"Lock", shapes}},
		{nameless{}, nil, []string{"größe"}},
		{&widgets{}, []micro.ReceiverOption{micro.Except("Close"), micro.Endpoints(micro.Concurrency(0))}, []string{"concurrency 0"}},
	} {
		s, err := micro.NewService(conn, micro.Config{Name: "w"})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Register(c.receiver, c.opts...)
		wantCode(t, err, bus.InvalidArgument, append(c.parts, `service "w"`)...)
		if eps := s.Stats().Endpoints; len(eps) != 0 {
			t.Errorf("%T: %d endpoints were added all the same", c.receiver, len(eps))
		}
	}
}

// One endpoint that is there already, and none of the receiver's is added.
func TestRegisterTwice(t *testing.T) {
	t.Parallel()
	s, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(s, "mixed", greet); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.Register(&widgets{}, micro.Except("Close")), bus.AlreadyExists, `"mixed"`, `"w"`)
	if n := len(s.Stats().Endpoints); n != 1 {
		t.Errorf("%d endpoints, want the one of before", n)
	}
	if err := s.Register(&widgets{}, micro.Except("Close", "Mixed")); err != nil {
		t.Error(err)
	}
	wantCode(t, micro.Handle(s, "get", greet), bus.AlreadyExists, `"get"`)
}

// A value has methods too.
func TestRegisterValue(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "w"}, func(s *micro.Service) error { return s.Register(valueMethod{"+"}) })
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	roundTrip(t, c, "w.get", hello{Name: "x"}, greeting{"+x"})
}

// The response so far reaches those who complete it, and nobody else.
func TestPrior(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "w"}, endpoints(
		func(s *micro.Service) error { return s.Register(&widgets{prefix: "+"}, micro.Except("Close")) },
		func(s *micro.Service) error {
			return micro.HandleAmend(s, "amend", func(_ context.Context, req *hello, resp *greeting) error {
				resp.Text += "." + req.Name
				return nil
			})
		},
	))
	nc := s.Connect(t)
	headers := make(chan nats.Header, 10)
	if _, err := nc.Subscribe("default.dev.svc.w.*", func(m *nats.Msg) { headers <- m.Header }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}} {
		c := newClient(t, connect(t, s, func(cfg *bus.Config) { cfg.Codec = codec }), micro.ClientConfig{})
		sees(t, c, "w", 1)
		body, prior := encode(t, codec, hello{Name: "x"}), encode(t, codec, greeting{"so far"})
		for ep, want := range map[string]string{"complete": "so far+x", "amend": "so far.x", "get": "+x", "getByValue": "+x"} {
			reply, err := c.Do(t.Context(), micro.Request{Service: "w", Endpoint: ep, ContentType: codec.ContentType(), Body: body, Prior: prior})
			if err != nil {
				t.Errorf("%s: %v", ep, err)
				continue
			}
			var got greeting
			if err := c.Decode(reply, &got); err != nil || got.Text != want {
				t.Errorf("%s: %q, %v; want %q", ep, got.Text, err, want)
			}
			sent := bustest.Receive(t, "the request", headers).Get("Skybus-Prior")
			if amends := ep == "complete" || ep == "amend"; amends != (sent != "") {
				t.Errorf("%s: the header is %q", ep, sent)
			}
		}
		if string(body) != string(encode(t, codec, hello{Name: "x"})) {
			t.Error("the caller's body was written to")
		}
		// Bytes of a response that are none, and a foreign caller who tells an endpoint what it does not ask for.
		_, err := c.Do(t.Context(), micro.Request{Service: "w", Endpoint: "amend", ContentType: codec.ContentType(), Body: body, Prior: []byte{0xc1}})
		wantCode(t, err, bus.InvalidArgument, "response so far is not "+codec.ContentType())
		bustest.Receive(t, "the request", headers)
	}
	reply := request(t, nc, "default.dev.svc.w.get", nats.Header{"Skybus-Prior": {"3"}}, `{"name":"x"}{}x`)
	if got := string(reply.Data); got != `{"text":"+x"}` {
		t.Errorf("answer %s %v", got, reply.Header)
	}
}

func encode(t *testing.T, codec bus.Codec, v any) []byte {
	t.Helper()
	b, err := codec.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Names of endpoints are checked as all others are.
func TestHandleRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	s, err := micro.NewService(conn, micro.Config{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range badNames() {
		wantCode(t, micro.Handle(s, name, greet), bus.InvalidArgument, "endpoint")
	}
	for _, n := range []int{0, -1} {
		wantCode(t, micro.Handle(s, "hello", greet, micro.Concurrency(n)), bus.InvalidArgument, "concurrency")
	}
	if n := len(s.Stats().Endpoints); n != 0 {
		t.Errorf("%d endpoints were added", n)
	}
	for _, name := range []string{"x", strings.Repeat("x", 64), "A-Z_0"} {
		if err := micro.Handle(s, name, greet); err != nil {
			t.Error(err)
		}
	}
}
