package route_test

import (
	"context"
	"fmt"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// A route is stored once, by whoever; a runner goes by what is stored at the time of each run.
func ExampleNewRunner() {
	ctx := context.Background()
	conn, stop := exampleShop(ctx) // two services: stock.check and till.charge
	defer stop()

	store, err := route.OpenStore(ctx, conn, route.StoreConfig{})
	if err != nil {
		panic(err)
	}
	if _, err := store.Create(ctx, "order", route.Route{Steps: []route.Step{
		{Service: "stock", Endpoint: "check"},
		{Service: "till", Endpoint: "charge"},
	}}); err != nil {
		panic(err)
	}
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "desk"})
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()

	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = runner.Close() }()
	res, err := runner.Run(ctx, "order", route.Request{Body: []byte(`{"item":"tea"}`)})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s in %d steps\n", res.Body, len(res.Hops))
	// Output: {"in_stock":3,"paid":true} in 2 steps
}
