package micro_test

import (
	"context"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// An endpoint may be added to a service that runs, and be removed again.
func ExampleService_Remove() {
	ctx, p := begin()
	defer p.end()

	started := make(chan struct{})
	s, err := micro.NewService(p.conn, micro.Config{Name: "greeter", Hooks: micro.Hooks{Started: func() { close(started) }}})
	check(err)
	p.run(ctx, s)
	<-started

	check(micro.Handle(s, "hello", func(_ context.Context, req Hello) (Greeting, error) {
		return Greeting{Text: "Hello " + req.Name}, nil
	}))
	answer, err := micro.Call[Greeting](ctx, p.client, "greeter.hello", Hello{Name: "Ann"})
	check(err)
	fmt.Println(answer.Text)

	check(s.Remove("hello"))
	_, err = micro.Control(ctx, p.conn, "greeter", s.Address().Instance, micro.VerbPing, nil)
	fmt.Println("the service still runs:", err == nil)
	// Output:
	// Hello Ann
	// the service still runs: true
}

// An instance can be taken out of service and back without stopping it.
func ExampleControl() {
	ctx, p := begin()
	defer p.end()

	started := make(chan struct{})
	s, err := micro.NewService(p.conn, micro.Config{Name: "greeter", Instance: "i1", Hooks: micro.Hooks{Started: func() { close(started) }}})
	check(err)
	p.run(ctx, s)
	<-started

	for _, verb := range []string{micro.VerbUnregister, micro.VerbRegister, "dance"} {
		now, err := micro.Control(ctx, p.conn, "greeter", "i1", verb, nil)
		fmt.Printf("%s %q\n", now, bus.CodeOf(err))
	}
	// Output:
	// {"registered":false} ""
	// {"registered":true} ""
	//  "unimplemented"
}

// Requests about the same account are handled one after the other, in the order in which they came; others meanwhile.
func ExampleSerialBy() {
	ctx, p := begin()
	defer p.end()

	type deposit struct {
		Account string `json:"account"`
		Amount  int    `json:"amount"`
	}
	balance := 0 // of one account: no lock
	s, err := micro.NewService(p.conn, micro.Config{Name: "bank"})
	check(err)
	check(micro.Handle(s, "deposit", func(_ context.Context, d deposit) (int, error) {
		balance += d.Amount
		return balance, nil
	}, micro.SerialBy(func(d deposit) string { return d.Account })))
	p.run(ctx, s)

	for range 3 {
		balance, err := micro.Call[int](ctx, p.client, "bank.deposit", deposit{"a", 5})
		check(err)
		fmt.Println(balance)
	}
	// Output:
	// 5
	// 10
	// 15
}
