package main

import (
	"context"
	"errors"
	"os"
	"strings"
)

// timersCreate compares creating timers with publishing plain messages, on a server of its own and on one in the same process.
func (b *bench) timersCreate(ctx context.Context) ([]section, error) {
	var sections []section
	for _, where := range []struct {
		name  string
		start func(ctx context.Context, c *crew) (maker *child, all []*child, err error)
	}{
		{": server of its own", startMaker},
		{": embedded server", startHost},
	} {
		s, err := b.creates(ctx, nameTimersCreate+where.name, where.start)
		if err != nil {
			return nil, err
		}
		sections = append(sections, s)
	}
	sections[1].Notes = []string{"timers-create: timers that are due much later, 100 B each, by scheduler.CreateMany, each told of on the bus; beside it" +
		" messages of 100 B, an id in the subject and three headers, by nats.go's PublishMsgAsync. 4,096 under way at once on both sides," +
		" by one connection, to files. stored B is what a stream has for each of them. No owner of the timers runs."}
	return sections, nil
}

// startMaker starts a server, and a program with timers that uses it.
func startMaker(ctx context.Context, c *crew) (maker *child, all []*child, err error) {
	server, url, err := c.server(ctx)
	if err != nil {
		return nil, nil, err
	}
	maker, _, err = c.start(ctx, roleTimers, order{URL: url})
	return maker, []*child{server, maker}, err
}

// startHost starts a program with timers that has the server in it.
func startHost(ctx context.Context, c *crew) (maker *child, all []*child, err error) {
	maker, _, err = c.host(ctx, order{})
	return maker, []*child{maker}, err
}

// host starts a program with timers and a server in it, and returns the server's URL.
func (c *crew) host(ctx context.Context, o order) (*child, string, error) {
	var err error
	if o.Dir, err = os.MkdirTemp(c.dir, "host-"); err != nil {
		return nil, "", err
	}
	host, ans, err := c.start(ctx, roleTimers, o)
	return host, ans.URL, err
}

func (b *bench) creates(ctx context.Context, name string, start func(context.Context, *crew) (*child, []*child, error)) (s section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	maker, all, err := start(ctx, c)
	if err != nil {
		return s, err
	}
	var variants []variant
	for _, v := range []struct{ what, act string }{{"CreateMany", actTimers}, {"JetStream async", actPlain}} {
		o := order{Op: opAct, Variant: v.act, For: b.set.warmUp(), Lead: farAway}
		if _, err := maker.do(o); err != nil {
			return s, err
		}
		o.For = b.set.window
		variants = append(variants, variant{v.what, func() ([]float64, error) {
			if _, err := maker.do(order{Op: opAct, Variant: actPurge}); err != nil {
				return nil, err
			}
			var m made
			used, err := using(func() error {
				ans, err := maker.do(o)
				m = ans.Made
				return err
			}, all...)
			if err != nil {
				return nil, err
			}
			n := float64(m.Count)
			return []float64{m.rate(), micros(used) / n, float64(m.Bytes) / n}, nil
		}})
	}
	rows, err := b.turns(ctx, name, b.set.windows, variants)
	if err != nil {
		return s, err
	}
	err = b.profiled(strings.ReplaceAll(name, ": ", "-"), all, func() error {
		_, err := maker.do(order{Op: opAct, Variant: actTimers, For: b.set.window, Lead: farAway})
		return err
	})
	return section{Name: name, Columns: []string{"per second", "CPU us each", "stored B each"}, Rows: append(rows, ratio(rows[0], rows[1]))}, err
}
