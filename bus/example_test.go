package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// A service answers on its subject, a caller asks there. Package micro does this with types, retries and discovery.
func ExampleConnect() {
	server := startServer()
	defer server.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	conn, err := bus.Connect(ctx, bus.Config{InProcess: server, Namespace: "shop.prod"}) // or Server: "nats://..."
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	subject := conn.Namespace().ServiceSubject("greeter", "hello")
	_, err = conn.NATS().QueueSubscribe(subject, bus.QueueService, func(m *nats.Msg) {
		_ = m.Respond([]byte("hello " + string(m.Data)))
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	reply, err := conn.Request(ctx, &nats.Msg{Subject: subject, Data: []byte("Ann")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(subject, "says", string(reply.Data))
	// Output: shop.prod.svc.greeter.hello says hello Ann
}

// An error crosses the wire as a code, a message and details; its cause stays with the service.
func ExampleError() {
	server := startServer()
	defer server.stop()
	conn := server.connect(bus.Config{})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	_, err := conn.NATS().Subscribe("orders.get", func(m *nats.Msg) {
		cause := errors.New("connection to the database refused")
		err := bus.Wrap(bus.NotFound, "no such order", cause).With("id", string(m.Data))
		_ = m.RespondMsg(bus.NewErrorReply(conn.Codec(), err))
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	_, err = conn.Request(ctx, &nats.Msg{Subject: "orders.get", Data: []byte("4711")})
	fmt.Println(err)
	if e, ok := errors.AsType[*bus.Error](err); ok {
		fmt.Println(e.Code, e.HTTPStatus(), e.Details["id"])
	}

	_, err = conn.Request(ctx, &nats.Msg{Subject: "orders.put"})
	fmt.Println(bus.CodeOf(err), errors.Is(err, bus.ErrNoResponders))
	// Output:
	// not_found: no such order
	// not_found 404 4711
	// unavailable true
}

// csv is a codec for []string.
type csv struct{}

func (csv) ContentType() string { return "text/csv" }

func (csv) Marshal(v any) ([]byte, error) {
	fields, ok := v.([]string)
	if !ok {
		return nil, fmt.Errorf("csv: want []string, got %T", v)
	}
	return []byte(strings.Join(fields, ",")), nil
}

func (csv) Unmarshal(data []byte, v any) error {
	fields, ok := v.(*[]string)
	if !ok {
		return fmt.Errorf("csv: want *[]string, got %T", v)
	}
	*fields = strings.Split(string(data), ",")
	return nil
}

// A codec of one's own is found by the content type of a message, like those that are built in.
func ExampleCodec() {
	server := startServer()
	defer server.stop()
	conn := server.connect(bus.Config{Codecs: []bus.Codec{csv{}}})

	for _, contentType := range []string{"text/csv; charset=utf-8", "application/json"} {
		codec, err := conn.CodecFor(contentType)
		if err != nil {
			fmt.Println(err)
			return
		}
		data, err := codec.Marshal([]string{"a", "b"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(codec.ContentType(), string(data))
	}
	// Output:
	// text/csv a,b
	// application/json ["a","b"]
}
