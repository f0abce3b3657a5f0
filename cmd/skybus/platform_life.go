package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// taker is a running part that takes what comes from outside, such as requests.
type taker struct {
	stop  func()
	wait  func() error
	drain time.Duration // how long it may take to stop
}

// run runs a part until the platform is closed, which is in the opposite order of the starts.
func (p *platform) run(ctx context.Context, part func(context.Context) error) {
	stop, wait := p.begin(ctx, part)
	p.onClose(func() error {
		stop()
		return wait()
	})
}

// take runs a part that takes what comes from outside, until the platform is closed. All of them are told to stop at once, or some would take more
// while others finish; what they use is there until the last has ended, for which each has its drain.
func (p *platform) take(ctx context.Context, drain time.Duration, part func(context.Context) error) {
	stop, wait := p.begin(ctx, part)
	p.takers = append(p.takers, taker{stop, wait, drain})
}

// begin runs a part until stop is called. wait waits for its end, and tells of an error that wait of the platform did not tell of.
func (p *platform) begin(ctx context.Context, part func(context.Context) error) (stop func(), wait func() error) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	var err error
	running.Go(func() {
		err = part(ctx)
		if ctx.Err() != nil {
			err = unlessStopped(ctx, err)
			return
		}
		if err == nil {
			err = errors.New("a part of the platform ended by itself")
		}
		select {
		case p.failed <- err:
			err = nil // told
		default:
		}
	})
	return stop, func() error {
		running.Wait()
		return err
	}
}

// wait returns when ctx ends, or with an error when a part of the platform does.
func (p *platform) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.failed:
		return err
	case <-p.conn.Closed():
		return errors.New("the connection to NATS was closed for good; the log says why")
	}
}

func (p *platform) onClose(f func() error) { p.cleanup = append(p.cleanup, f) }

// close takes the platform apart: first what takes something from outside, then the rest. Where ctx has ended, what was cut off by that is logged
// and no error: who stops the platform does not wait long, least of all for a server that is gone.
func (p *platform) close(ctx context.Context, log *slog.Logger) error {
	drain := time.Duration(0)
	for _, t := range p.takers {
		t.stop()
		drain = max(drain, t.drain)
	}
	closeNATS := func() {}
	if p.conn != nil {
		closeNATS = p.conn.NATS().Close
		if !p.conn.NATS().IsConnected() {
			closeNATS()
		}
	}
	cutOff := time.AfterFunc(drain+upCutOff, closeNATS)
	defer cutOff.Stop()
	var errs []error
	ended := func(err error) {
		if err != nil && ctx.Err() != nil && isCutOff(err) {
			log.WarnContext(ctx, "stopped before all was finished", "error", message(err))
			return
		}
		errs = append(errs, err)
	}
	for _, t := range slices.Backward(p.takers) {
		ended(t.wait())
	}
	cutOff.Reset(cmp.Or(p.cutOff, upCutOff))
	for _, f := range slices.Backward(p.cleanup) {
		ended(f())
	}
	return errors.Join(errs...)
}

// isCutOff tells whether something could not be finished in time, or for want of a connection.
func isCutOff(err error) bool {
	switch bus.CodeOf(err) {
	case bus.DeadlineExceeded, bus.Canceled, bus.Unavailable:
		return true
	default:
		return errors.Is(err, nats.ErrConnectionClosed)
	}
}
