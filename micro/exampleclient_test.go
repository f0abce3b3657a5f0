package micro_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
)

// greeters runs n instances of one service and waits until a client knows them.
func greeters(ctx context.Context, p *platform, ids ...string) {
	for _, id := range ids {
		greeter, err := micro.NewService(p.conn, micro.Config{Name: "greeter", Version: "1.0.0", Region: "eu", Instance: id})
		check(err)
		check(micro.Handle(greeter, "hello", func(_ context.Context, req Hello) (Greeting, error) {
			return Greeting{Text: "Hello " + req.Name + " from " + id}, nil
		}, micro.OneWay()))
		p.run(ctx, greeter)
	}
	for {
		changed := p.client.Registry().Changed()
		if s := p.client.Registry().Service("greeter"); s != nil && len(s.Online) == len(ids) {
			return
		}
		<-changed
	}
}

// Who is to answer is said once, for all calls of a handle.
func ExampleClient_Service() {
	ctx, p := begin()
	defer p.end()
	greeters(ctx, p, "a")

	greeter := p.client.Service("greeter", micro.ToVersion("1.0.0"), micro.ToRegion("eu"))
	var answer Greeting
	check(greeter.Send(ctx, "hello", Hello{Name: "world"}, &answer))
	fmt.Println(answer.Text)
	// Output: Hello world from a
}

// The same key goes to the same instance, in every process.
func ExampleWithKey() {
	ctx, p := begin()
	defer p.end()
	greeters(ctx, p, "a", "b", "c")

	client, err := micro.NewClient(ctx, p.conn, micro.ClientConfig{
		Registry: p.client.Registry(),
		Policies: map[string]balance.Policy{"greeter": balance.ConsistentHash()},
	})
	check(err)
	for _, name := range []string{"ann", "bob", "ann", "bob"} {
		answer, err := micro.Call[Greeting](ctx, client, "greeter.hello", Hello{Name: name}, micro.WithKey(name))
		check(err)
		fmt.Println(answer.Text)
	}
	// Output:
	// Hello ann from b
	// Hello bob from a
	// Hello ann from b
	// Hello bob from a
}

// All instances are asked, and their answers come as they are.
func ExampleCallAll() {
	ctx, p := begin()
	defer p.end()
	greeters(ctx, p, "a", "b", "c")

	var texts []string
	for answer, err := range micro.CallAll[Greeting](ctx, p.client, "greeter.hello", Hello{Name: "all"}) {
		check(err)
		texts = append(texts, answer.Resp.Text)
	}
	slices.Sort(texts)
	fmt.Println(texts)
	// Output: [Hello all from a Hello all from b Hello all from c]
}

// A second instance is asked when the first has not answered within 20 ms, a third after 20 ms more.
func ExampleHedge() {
	ctx, p := begin()
	defer p.end()
	greeters(ctx, p, "a")

	answer, err := micro.Call[Greeting](ctx, p.client, "greeter.hello", Hello{Name: "world"}, micro.Hedge(20*time.Millisecond))
	check(err)
	fmt.Println(answer.Text)
	check(micro.Notify(ctx, p.client, "greeter.hello", Hello{Name: "nobody in particular"}))
	// Output: Hello world from a
}
