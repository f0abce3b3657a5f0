package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	routeName     = "bench"
	variantRoute  = "route"
	variantInTurn = "calls in turn"
)

func stepEndpoints() []string { return []string{"stock", "price", "ship"} }

// StepRequest is what every step is given.
type StepRequest struct {
	ID   int64  `msgpack:"id"`
	Item string `msgpack:"item"`
}

// StepResponse is what the steps say, each one of the fields.
type StepResponse struct {
	Stock int64 `msgpack:"stock,omitempty"`
	Price int64 `msgpack:"price,omitempty"`
	Ship  int64 `msgpack:"ship,omitempty"`
}

func (r StepResponse) check(id int64) error {
	if want := (StepResponse{id + 1, id + 2, id + 3}); r != want {
		return fmt.Errorf("answer %+v: want %+v", r, want)
	}
	return nil
}

func startSteps(ctx context.Context, url string) (stop func() error, err error) {
	return serveSkybus(ctx, url, func(svc *micro.Service) error {
		steps := []func(id int64) StepResponse{
			func(id int64) StepResponse { return StepResponse{Stock: id + 1} },
			func(id int64) StepResponse { return StepResponse{Price: id + 2} },
			func(id int64) StepResponse { return StepResponse{Ship: id + 3} },
		}
		var errs []error
		for i, name := range stepEndpoints() {
			errs = append(errs, micro.Handle(svc, name, func(_ context.Context, req StepRequest) (StepResponse, error) {
				return steps[i](req.ID), nil
			}))
		}
		return errors.Join(errs...)
	})
}

// newRouteCaller runs the route, or makes the calls of its steps one after the other.
func newRouteCaller(ctx context.Context, o order) (call caller, stop func() error, err error) {
	client, closeClient, err := newSkybusClient(ctx, o.URL)
	if err != nil {
		return nil, nil, err
	}
	if o.Variant == variantInTurn {
		return callsInTurn(client), closeClient, nil
	}
	runner, err := newRunner(ctx, client)
	if err != nil {
		return nil, nil, errors.Join(err, closeClient())
	}
	codec := bus.MessagePack{}
	call = func(ctx context.Context, id int64) error {
		body, err := codec.Marshal(StepRequest{id, "tea"})
		if err != nil {
			return err
		}
		res, err := runner.Run(ctx, routeName, route.Request{ContentType: codec.ContentType(), Body: body})
		if err != nil {
			return err
		}
		var got StepResponse
		if err := codec.Unmarshal(res.Body, &got); err != nil {
			return err
		}
		return got.check(id)
	}
	return call, func() error { return errors.Join(runner.Close(), closeClient()) }, nil
}

// newRunner stores the route and makes a runner of it.
func newRunner(ctx context.Context, client *micro.Client) (*route.Runner, error) {
	store, err := route.OpenStore(ctx, client.Conn(), route.StoreConfig{})
	if err != nil {
		return nil, err
	}
	var r route.Route
	for _, endpoint := range stepEndpoints() {
		r.Steps = append(r.Steps, route.Step{Service: serviceName, Endpoint: endpoint})
	}
	if _, err := store.Put(ctx, routeName, r, 0); err != nil {
		return nil, err
	}
	return route.NewRunner(ctx, client, route.Config{})
}

func callsInTurn(client *micro.Client) caller {
	return func(ctx context.Context, id int64) error {
		var all StepResponse
		for i, endpoint := range stepEndpoints() {
			got, err := micro.Call[StepResponse](ctx, client, serviceName+"."+endpoint, StepRequest{id, "tea"})
			if err != nil {
				return err
			}
			switch i {
			case 0:
				all.Stock = got.Stock
			case 1:
				all.Price = got.Price
			default:
				all.Ship = got.Ship
			}
		}
		return all.check(id)
	}
}

// route compares a route of three steps with the calls of its steps.
func (b *bench) route(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	server, url, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	service, _, err := c.start(ctx, roleService, order{Part: nameRoute, Side: sideSkybus, URL: url})
	if err != nil {
		return nil, err
	}
	whats := []string{variantRoute, variantInTurn}
	var clients []*child
	for _, what := range whats {
		client, _, err := c.start(ctx, roleClient, order{Part: nameRoute, Side: sideSkybus, URL: url, Variant: what})
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	var sections []section
	for _, callers := range b.set.callers {
		var variants []variant
		for i, what := range whats {
			if _, err := clients[i].do(order{Op: opLoad, Callers: callers, For: b.set.warmUp() / 2}); err != nil {
				return nil, err
			}
			variants = append(variants, variant{what, func() ([]float64, error) { return b.routeWindow(callers, clients[i], server, service) }})
		}
		name := fmt.Sprintf("%s of three steps, c=%d", nameRoute, callers)
		rows, err := b.turns(ctx, name, b.set.windows, variants)
		if err != nil {
			return nil, err
		}
		rows = append(rows, ratio(rows[0], rows[1]))
		sections = append(sections, section{Name: name, Columns: []string{"runs/s", "p50 us", "p99 us", "CPU us per run"}, Rows: rows})
	}
	sections[0].Notes = []string{"route: run by a runner in the calling process, against the same three calls made by the caller one after the other;" +
		" CPU is that of server, service and caller."}
	return sections, nil
}

func (b *bench) routeWindow(callers int, client *child, others ...*child) ([]float64, error) {
	var l load
	used, err := using(func() error {
		ans, err := client.do(order{Op: opLoad, Callers: callers, For: b.set.window / 2})
		l = ans.Load
		return err
	}, append(slices.Clone(others), client)...)
	if err != nil {
		return nil, err
	}
	return []float64{float64(l.Calls) / l.Elapsed.Seconds(), micros(l.P50), micros(l.P99), micros(used) / float64(l.Calls)}, nil
}
