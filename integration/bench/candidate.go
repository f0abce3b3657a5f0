package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/election"
)

// What a candidate is told to do.
const (
	actCampaign = "campaign" // begin to
	actElected  = "elected"  // say so when it leads
	actResign   = "resign"
)

// candidate is one process that campaigns for the leadership of the service.
type candidate struct {
	election *election.Election
	name     string
	running  sync.WaitGroup
	elected  chan elected
	leads    *election.Leadership
}

type elected struct {
	leads *election.Leadership
	err   error
}

func newCandidate(ctx context.Context, o order) (act func(context.Context, order) (answer, error), stop func() error, err error) {
	conn, err := bus.Connect(ctx, bus.Config{Server: o.URL})
	if err != nil {
		return nil, nil, err
	}
	e, err := election.Open(ctx, conn, election.Config{TTL: o.TTL})
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	c := &candidate{election: e, name: "candidate-" + strconv.Itoa(o.Count), elected: make(chan elected, 1)}
	return c.act, func() error {
		err := e.Close()
		c.running.Wait()
		return errors.Join(err, conn.Close())
	}, nil
}

func (c *candidate) act(ctx context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actCampaign:
		c.running.Go(func() {
			l, err := c.election.Campaign(ctx, serviceName, c.name)
			c.elected <- elected{l, err}
		})
		return ans, nil
	case actElected:
		got := <-c.elected
		c.leads = got.leads
		return ans, got.err
	case actResign:
		return ans, c.leads.Resign(ctx)
	default:
		return ans, fmt.Errorf("a candidate cannot %q", o.Variant)
	}
}

const (
	electionTTL  = 5 * time.Second // the default
	quickTTL     = 2 * time.Second
	killTrials   = 3
	resignTrials = 10
	settle       = 100 * time.Millisecond
)

// campaigners are a leader and who waits to follow it.
type campaigners struct {
	*crew
	url    string
	ttl    time.Duration
	n      int
	leader *child
	next   *child
}

// candidate starts another one, who campaigns.
func (c *campaigners) candidate(ctx context.Context) (*child, error) {
	c.n++
	p, _, err := c.start(ctx, roleCandidate, order{Part: nameTakeover, URL: c.url, TTL: c.ttl, Count: c.n})
	if err != nil {
		return nil, err
	}
	_, err = p.do(order{Op: opAct, Variant: actCampaign})
	return p, err
}

// follow tells how long it takes from when end begins until the next one leads.
func (c *campaigners) follow(end func() error) (time.Duration, error) {
	type result struct {
		at  time.Time
		err error
	}
	led := make(chan result, 1)
	go func() {
		_, err := c.next.do(order{Op: opAct, Variant: actElected})
		led <- result{time.Now(), err}
	}()
	begin := time.Now()
	err := end()
	r := <-led
	c.leader, c.next = c.next, c.leader
	return r.at.Sub(begin), errors.Join(err, r.err)
}

// elections kills leaders, at different times of their renewals, and then lets them resign.
func (b *bench) elections(ctx context.Context) (_ section, err error) {
	c := &campaigners{crew: &crew{dir: b.dir}, ttl: electionTTL}
	kills, resigns := min(b.set.windows, killTrials), resignTrials
	if b.set.quick {
		c.ttl, kills, resigns = quickTTL, 1, 2
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if _, c.url, err = c.server(ctx); err != nil {
		return section{}, err
	}
	if c.leader, err = c.candidate(ctx); err != nil {
		return section{}, err
	}
	if _, err = c.leader.do(order{Op: opAct, Variant: actElected}); err != nil {
		return section{}, err
	}
	i := 0
	killed, err := b.trials(ctx, "leader killed", kills, func() (time.Duration, error) {
		if c.next, err = c.candidate(ctx); err != nil {
			return 0, err
		}
		renewed := c.ttl / 3
		i++
		if err := pause(ctx, settle+renewed*time.Duration(2*i-1)/time.Duration(2*kills)); err != nil {
			return 0, err
		}
		return c.follow(c.leader.kill)
	})
	if err != nil {
		return section{}, err
	}
	if c.next, err = c.candidate(ctx); err != nil {
		return section{}, err
	}
	resigned, err := b.trials(ctx, "leader resigned", resigns, func() (time.Duration, error) {
		if err := pause(ctx, settle); err != nil {
			return 0, err
		}
		took, err := c.follow(func() error {
			_, err := c.leader.do(order{Op: opAct, Variant: actResign})
			return err
		})
		if err == nil {
			_, err = c.next.do(order{Op: opAct, Variant: actCampaign})
		}
		return took, err
	})
	return section{
		Name: nameTakeover + ": election", Columns: []string{"ms", "shortest", "longest"}, Rows: []row{killed, resigned},
		Notes: []string{fmt.Sprintf("takeover: from the end of a leader until another process leads; TTL %v, of which a killed one has used up to a"+
			" third when it dies.", c.ttl)},
	}, err
}

// trials is a row of how long something took: median, shortest and longest.
func (b *bench) trials(ctx context.Context, what string, n int, trial func() (time.Duration, error)) (row, error) {
	rows, err := b.turns(ctx, nameTakeover, n, []variant{{what, func() ([]float64, error) {
		took, err := trial()
		return []float64{millis(took)}, err
	}}})
	if err != nil {
		return row{}, err
	}
	r := rows[0]
	all := column(r.Windows, 0)
	r.Values = append(r.Values, lowest(all), highest(all))
	return r, nil
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
