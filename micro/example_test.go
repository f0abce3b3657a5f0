package micro_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// Hello is a request, Greeting its response.
type Hello struct {
	Name string `json:"name"`
}

type Greeting struct {
	Text string `json:"text"`
}

// A service with one endpoint, and a call of it.
func ExampleNewService() {
	ctx, p := begin() // the connection p.conn and the client p.client
	defer p.end()

	greeter, err := micro.NewService(p.conn, micro.Config{Name: "greeter", Version: "1.0.0"})
	check(err)
	err = micro.Handle(greeter, "hello", func(_ context.Context, req Hello) (Greeting, error) {
		return Greeting{Text: "Hello " + req.Name}, nil
	})
	check(err)
	p.run(ctx, greeter) // greeter.Run(ctx), until ctx ends

	answer, err := micro.Call[Greeting](ctx, p.client, "greeter.hello", Hello{Name: "world"})
	check(err)
	fmt.Println(answer.Text)
	// Output: Hello world
}

// Any NATS client can call it: nats req default.dev.svc.greeter.hello '{"name":"world"}'.
func ExampleHandle() {
	ctx, p := begin()
	defer p.end()

	greeter, err := micro.NewService(p.conn, micro.Config{Name: "greeter"})
	check(err)
	err = micro.Handle(greeter, "hello", func(_ context.Context, req *Hello) (*Greeting, error) {
		if req.Name == "" {
			return nil, bus.Errorf(bus.InvalidArgument, "who are you?").With("field", "name")
		}
		return &Greeting{Text: "Hello " + req.Name}, nil
	}, micro.Concurrency(10), micro.Idempotent())
	check(err)
	p.run(ctx, greeter)

	_, err = micro.Call[Greeting](ctx, p.client, "greeter.hello", Hello{Name: "world"}) // waits for the start
	check(err)
	reply, err := p.conn.NATS().Request("default.dev.svc.greeter.hello", []byte(`{"name":"world"}`), time.Second)
	check(err)
	fmt.Println(string(reply.Data))
	reply, err = p.conn.NATS().Request("default.dev.svc.greeter.hello", []byte(`{}`), time.Second)
	check(err)
	fmt.Println(reply.Header.Get("Nats-Service-Error-Code"), reply.Header.Get("Nats-Service-Error"))
	fmt.Println(string(reply.Data))
	// Output:
	// {"text":"Hello world"}
	// 400 who are you?
	// {"code":"invalid_argument","message":"who are you?","details":{"field":"name"}}
}

// An error says what kind it is.
func ExampleCall() {
	ctx, p := begin()
	defer p.end()
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond) // travels with the request
	defer cancel()

	_, err := micro.Call[Greeting](ctx, p.client, "greeter.hello", Hello{Name: "world"})
	if e, ok := errors.AsType[*bus.Error](err); ok {
		fmt.Println(e.Code, e.HTTPStatus())
		fmt.Println(e.Message)
	}
	_, err = micro.Call[Greeting](ctx, p.client, "greeter/hello", Hello{Name: "world"})
	fmt.Println(bus.CodeOf(err))
	// Output:
	// unavailable 503
	// nobody serves greeter.hello: no instance of it is known
	// invalid_argument
}

// Widgets is a receiver: its methods become endpoints.
type Widgets struct{ names []string }

type (
	Find struct {
		Prefix string `json:"prefix"`
	}
	Found struct {
		Names []string `json:"names"`
		Note  string   `json:"note,omitempty"`
	}
)

func (w *Widgets) Get(_ context.Context, req *Find) (*Found, error) {
	found := &Found{}
	for _, name := range w.names {
		if strings.HasPrefix(name, req.Prefix) {
			found.Names = append(found.Names, name)
		}
	}
	return found, nil
}

// Count completes a response.
func (w *Widgets) Count(_ context.Context, _ *Find, resp *Found) error {
	resp.Note = fmt.Sprintf("%d widgets", len(w.names))
	return nil
}

// Load is not for callers.
func (w *Widgets) Load(names ...string) { w.names = append(w.names, names...) }

func ExampleService_Register() {
	ctx, p := begin()
	defer p.end()

	widgets := &Widgets{}
	widgets.Load("bolt", "nut", "bracket")
	s, err := micro.NewService(p.conn, micro.Config{Name: "widgets"})
	check(err)
	fmt.Println(s.Register(widgets))
	check(s.Register(widgets, micro.Except("Load")))
	p.run(ctx, s)

	found, err := micro.Call[Found](ctx, p.client, "widgets.get", Find{Prefix: "b"})
	check(err)
	fmt.Println(found.Names)
	found, err = micro.Call[Found](ctx, p.client, "widgets.count", Find{})
	check(err)
	fmt.Println(found.Note)
	// Output:
	// invalid_argument: service "widgets": register: method *micro_test.Widgets.Load is func(...string); want (context.Context, *Request) (*Response, error) or (context.Context, *Request, *Response) error, or name it in micro.Except
	// [bolt bracket]
	// 3 widgets
}

// Steps of a route complete one response; outside of a route it is empty at first.
func ExampleHandleAmend() {
	ctx, p := begin()
	defer p.end()

	s, err := micro.NewService(p.conn, micro.Config{Name: "signer"})
	check(err)
	err = micro.HandleAmend(s, "sign", func(_ context.Context, req *Hello, resp *Greeting) error {
		resp.Text += " -- " + req.Name
		return nil
	})
	check(err)
	p.run(ctx, s)
	for {
		changed := p.client.Registry().Changed()
		if _, known := p.client.Registry().Service("signer").Endpoint("sign"); known {
			break
		}
		<-changed
	}

	reply, err := p.client.Do(ctx, micro.Request{
		Service: "signer", Endpoint: "sign",
		Body:  []byte(`{"name":"Ann"}`),
		Prior: []byte(`{"text":"See you"}`),
	})
	check(err)
	fmt.Println(string(reply.Body))
	// Output: {"text":"See you -- Ann"}
}

// A handler knows who asks, and its own calls go on under the same request id.
func ExampleInfo() {
	ctx, p := begin()
	defer p.end()

	s, err := micro.NewService(p.conn, micro.Config{Name: "who", Instance: "i1"})
	check(err)
	err = micro.Handle(s, "am-i", func(ctx context.Context, _ struct{}) (Greeting, error) {
		info := micro.Info(ctx)
		caller, err := bus.ParseAddress(info.Caller)
		if err != nil {
			return Greeting{}, err
		}
		return Greeting{Text: fmt.Sprintf("%s, request %s, asks %s/%s", caller.Service, info.RequestID, info.Service, info.Instance)}, nil
	})
	check(err)
	p.run(ctx, s)

	answer, err := micro.Call[Greeting](micro.WithRequestID(ctx, "r-17"), p.client, "who.am-i", nil)
	check(err)
	fmt.Println(answer.Text)
	// Output: example, request r-17, asks who/i1
}
