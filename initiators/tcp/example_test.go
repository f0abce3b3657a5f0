package tcp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// A server needs a target and a listener; it knows nothing of the services.
func ExampleNew() {
	ctx, cancel := context.WithCancel(context.Background())
	sources, stop := exampleSources(ctx) // with a service that has the endpoint greeter.hello
	defer stop()

	target, err := sources.Target(initiators.Spec{
		Call:    "greeter.hello",
		Request: &initiators.Mapping{Body: initiators.BodyNone, Fields: map[string]string{"name": "{line}"}},
	})
	if err != nil {
		panic(err)
	}
	server, err := tcp.New(target, tcp.Config{})
	if err != nil {
		panic(err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() { done <- server.Serve(ctx, l) }()

	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "Ann\nBob\n")
	answers := bufio.NewScanner(conn)
	for range 2 {
		answers.Scan()
		fmt.Println(answers.Text())
	}
	_ = conn.Close()

	cancel()
	fmt.Println(<-done)
	// Output:
	// {"text":"Hello Ann"}
	// {"text":"Hello Bob"}
	// <nil>
}

// nul is a framing of one's own: frames end with a zero byte.
type nul struct{}

var _ tcp.Framing = nul{}

func (nul) ReadFrame(r *bufio.Reader, limit int) ([]byte, error) {
	var frame []byte
	for {
		part, err := r.ReadSlice(0)
		frame = append(frame, part...)
		if len(frame) > limit+1 {
			return nil, tcp.TooLong(limit)
		}
		if err == nil {
			return frame[:len(frame)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

func (nul) WriteFrame(w *bufio.Writer, body []byte) error {
	if bytes.IndexByte(body, 0) >= 0 {
		return bus.Errorf(bus.OutOfRange, "the answer has a zero byte in it")
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.WriteByte(0)
}

func ExampleFraming() {
	framing := nul{}
	var wire bytes.Buffer
	w := bufio.NewWriter(&wire)
	if err := errors.Join(framing.WriteFrame(w, []byte("one")), framing.WriteFrame(w, []byte("two")), w.Flush()); err != nil {
		panic(err)
	}
	fmt.Printf("%q\n", wire.String())
	fmt.Println(framing.WriteFrame(w, []byte{0}))
	// Output:
	// "one\x00two\x00"
	// out_of_range: the answer has a zero byte in it
}
