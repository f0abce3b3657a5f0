package micro_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/skybus-io/skybus/micro"
)

// One request, many answers. The handler waits in Send while the caller has not read what came before.
func ExampleHandleServerStream() {
	ctx, p := begin()
	defer p.end()

	svc, err := micro.NewService(p.conn, micro.Config{Name: "greeter"})
	check(err)
	err = micro.HandleServerStream(svc, "all", func(ctx context.Context, names []string, out *micro.Sender[Greeting]) error {
		for _, name := range names {
			if err := out.Send(ctx, Greeting{Text: "Hello " + name}); err != nil {
				return err // the caller is gone, or has read enough
			}
		}
		return nil
	})
	check(err)
	p.run(ctx, svc)

	for answer, err := range micro.CallServerStream[Greeting](ctx, p.client, "greeter.all", []string{"Ann", "Bob"}) {
		check(err)
		fmt.Println(answer.Text)
	}
	// Output:
	// Hello Ann
	// Hello Bob
}

// Many requests, one answer.
func ExampleHandleClientStream() {
	ctx, p := begin()
	defer p.end()

	svc, err := micro.NewService(p.conn, micro.Config{Name: "math"})
	check(err)
	err = micro.HandleClientStream(svc, "sum", func(_ context.Context, in iter.Seq2[int, error]) (int, error) {
		sum := 0
		for n, err := range in {
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	})
	check(err)
	p.run(ctx, svc)

	st, err := micro.CallClientStream[int, int](ctx, p.client, "math.sum")
	check(err)
	for n := range 5 {
		check(st.Send(ctx, n))
	}
	sum, err := st.Finish(ctx)
	check(err)
	fmt.Println(sum)
	// Output: 10
}

// Many requests, many answers, at the same time or by turns.
func ExampleHandleBidi() {
	ctx, p := begin()
	defer p.end()

	svc, err := micro.NewService(p.conn, micro.Config{Name: "math"})
	check(err)
	err = micro.HandleBidi(svc, "square", func(ctx context.Context, in *micro.Receiver[int], out *micro.Sender[int]) error {
		for n, err := range in.All(ctx) {
			if err == nil {
				err = out.Send(ctx, n*n)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	check(err)
	p.run(ctx, svc)

	st, err := micro.CallBidi[int, int](ctx, p.client, "math.square")
	check(err)
	for n := range 3 {
		check(st.Send(ctx, n))
		square, err := st.Recv(ctx)
		check(err)
		fmt.Println(square)
	}
	check(st.CloseSend())
	_, err = st.Recv(ctx)
	fmt.Println(errors.Is(err, io.EOF))
	// Output:
	// 0
	// 1
	// 4
	// true
}
