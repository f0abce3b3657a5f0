package stream_test

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/stream"
)

// Both ends of a stream, without a service around them.
func ExampleMux() {
	ctx := context.Background()
	server, err := bustest.Open()
	check(err)
	defer func() { check(server.Close()) }()
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	check(err)
	defer func() { check(conn.Close()) }()
	mux, err := stream.New(conn, stream.Config{Window: 16}) // at most 16 unread messages at each end
	check(err)
	defer func() { check(mux.Close()) }()

	_, err = conn.NATS().Subscribe("shout", func(msg *nats.Msg) {
		ctx, s, err := mux.Accept(ctx, msg, nil)
		check(err)
		go func() {
			for {
				text, err := s.Recv(ctx)
				if err != nil { // io.EOF: the other side has sent all
					_ = s.Finish(nil, nil) // nothing is left to do
					return
				}
				check(s.Send(ctx, append(text, '!')))
			}
		}()
	})
	check(err)

	s, err := mux.Open(ctx, &nats.Msg{Subject: "shout"})
	check(err)
	for _, word := range []string{"stop", "go"} {
		check(s.Send(ctx, []byte(word)))
		answer, err := s.Recv(ctx)
		check(err)
		fmt.Println(string(answer))
	}
	check(s.CloseSend(nil))
	_, err = s.Recv(ctx)
	fmt.Println(err)
	// Output:
	// stop!
	// go!
	// EOF
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
