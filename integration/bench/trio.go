package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// trio is what serves one side: a NATS server, a service and a client, each a process, connected by TCP on loopback.
type trio struct {
	side    side
	server  *child
	service *child
	client  *child
}

// startTrio returns when calls can be made. All of it ends with ctx.
func startTrio(ctx context.Context, s side, w workload, dir string) (_ *trio, err error) {
	t := &trio{side: s}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", s, errors.Join(err, t.close()))
		}
	}()
	store, err := os.MkdirTemp(dir, "server-")
	if err != nil {
		return nil, err
	}
	if t.server, err = spawn(ctx, roleServer); err != nil {
		return nil, err
	}
	ans, err := t.server.do(order{Op: opStart, Dir: store})
	if err != nil {
		return nil, err
	}
	for _, p := range []struct {
		role  role
		child **child
	}{{roleService, &t.service}, {roleClient, &t.client}} {
		if *p.child, err = spawn(ctx, p.role); err != nil {
			return nil, err
		}
		if _, err = (*p.child).do(order{Op: opStart, Side: s, Workload: w, URL: ans.URL}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *trio) all() []*child { return []*child{t.server, t.service, t.client} }

// close ends the processes, callers first.
func (t *trio) close() error {
	var errs []error
	for _, c := range slices.Backward(t.all()) {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// window makes calls for a time and tells what one of them took.
func (t *trio) window(callers int, d time.Duration) (figures, error) {
	before, err := t.used()
	if err != nil {
		return figures{}, err
	}
	machine, err := machineCPU()
	if err != nil {
		return figures{}, err
	}
	ans, err := t.client.do(order{Op: opLoad, Callers: callers, For: d})
	if err != nil {
		return figures{}, err
	}
	machineAfter, err := machineCPU()
	if err != nil {
		return figures{}, err
	}
	after, err := t.used()
	if err != nil {
		return figures{}, err
	}
	server, service, client := after[0].since(before[0]), after[1].since(before[1]), after[2].since(before[2])
	own := server.CPU + service.CPU + client.CPU
	l := ans.Load
	calls := float64(l.Calls)
	return figures{
		Rate:          calls / l.Elapsed.Seconds(),
		P50:           micros(l.P50),
		P99:           micros(l.P99),
		CPU:           micros(own) / calls,
		CPUServer:     micros(server.CPU) / calls,
		CPUService:    micros(service.CPU) / calls,
		CPUClient:     micros(client.CPU) / calls,
		AllocsService: float64(service.Mallocs) / calls,
		AllocsClient:  float64(client.Mallocs) / calls,
		Others:        machineAfter.others(machine, own),
	}, nil
}

// used is what the server, the service and the client have used, in this order.
func (t *trio) used() ([3]use, error) {
	var u [3]use
	for i, c := range t.all() {
		ans, err := c.do(order{Op: opUse})
		if err != nil {
			return u, err
		}
		u[i] = ans.Use
	}
	return u, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
