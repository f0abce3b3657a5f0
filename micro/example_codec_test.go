package micro_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// XML is a codec of one's own: a name, and two functions. NATS's size limit bounds what Unmarshal is given.
type XML struct{}

var _ bus.Codec = XML{}

func (XML) ContentType() string           { return "application/xml" }
func (XML) Marshal(v any) ([]byte, error) { return xml.Marshal(v) }

// Unmarshal refuses text after the document, as the built-in codecs do.
func (XML) Unmarshal(data []byte, v any) error {
	dec := xml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the document")
	}
	return nil
}

// A service that speaks XML beside MessagePack and JSON: the answer comes as the request does.
func Example_codec() {
	ctx, stop := context.WithCancel(context.Background())
	server, err := bustest.Open()
	check(err)
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server, Codec: XML{}}) // or Codecs, to understand it only
	check(err)
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{})
	check(err)
	p := &platform{conn: conn, client: client, server: server, stop: stop}
	defer p.end()

	greeter, err := micro.NewService(conn, micro.Config{Name: "greeter"})
	check(err)
	check(micro.Handle(greeter, "hello", func(_ context.Context, req Hello) (Greeting, error) {
		return Greeting{Text: "Hello " + req.Name}, nil
	}))
	p.run(ctx, greeter)

	answer, err := micro.Call[Greeting](ctx, client, "greeter.hello", Hello{Name: "world"})
	check(err)
	fmt.Println(answer.Text)

	reply, err := conn.NATS().RequestMsg(&nats.Msg{
		Subject: "default.dev.svc.greeter.hello",
		Header:  nats.Header{"Content-Type": {"application/xml"}},
		Data:    []byte("<Hello><Name>anybody</Name></Hello>"),
	}, time.Second)
	check(err)
	fmt.Printf("%s\n", reply.Data)
	// Output:
	// Hello world
	// <Greeting><Text>Hello anybody</Text></Greeting>
}
