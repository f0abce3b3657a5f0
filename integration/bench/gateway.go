package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// gatewayFigures are requests to the demo's route by HTTP: medians over the windows.
type gatewayFigures struct {
	Callers int             `json:"in_flight"`
	Median  gatewayWindow   `json:"median"`
	Windows []gatewayWindow `json:"windows"`
}

type gatewayWindow struct {
	Rate float64 `json:"requests_per_second"`
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	CPU  float64 `json:"cpu_us_per_request"` // of the platform alone
}

// newGatewayCaller asks for a widget by HTTP, over as many connections as there are calls in flight.
func newGatewayCaller(url string) (call caller, stop func() error) {
	transport := &http.Transport{MaxIdleConnsPerHost: maxCallers}
	client := &http.Client{Transport: transport, Timeout: callTimeout}
	call = func(ctx context.Context, _ int64) (err error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"input":"x"}`))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, resp.Body.Close()) }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %.200s", resp.Status, body)
		}
		return err
	}
	return call, func() error {
		transport.CloseIdleConnections()
		return nil
	}
}

func gatewayCallers() []int { return []int{1, 32} }

// gateway loads the gateway of a new platform from a process of its own.
func (b *bench) gateway(ctx context.Context) (all []gatewayFigures, err error) {
	program, err := b.skybus(ctx)
	if err != nil {
		return nil, err
	}
	p, err := startDemo(ctx, program, b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	client, err := spawn(ctx, roleClient)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.close()) }()
	if _, err := client.do(order{Op: opStart, Side: sideGateway, URL: p.urls["http"] + "/getwidgets"}); err != nil {
		return nil, err
	}
	for _, callers := range gatewayCallers() {
		name := fmt.Sprintf("%s c=%d", nameGateway, callers)
		b.progress.step(name, "warming up")
		if _, err := client.do(order{Op: opLoad, Callers: callers, For: b.set.warmUp()}); err != nil {
			return nil, err
		}
		f := gatewayFigures{Callers: callers}
		for i := range b.set.windows {
			b.progress.step(name, fmt.Sprintf("window %d of %d", i+1, b.set.windows))
			w, err := p.window(client, callers, b.set.window)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			f.Windows = append(f.Windows, w)
		}
		f.Median = medianWindow(f.Windows)
		all = append(all, f)
	}
	return all, nil
}

func (p *platform) window(client *child, callers int, d time.Duration) (gatewayWindow, error) {
	before, err := cpuOf(p.cmd.Process.Pid)
	if err != nil {
		return gatewayWindow{}, err
	}
	ans, err := client.do(order{Op: opLoad, Callers: callers, For: d})
	if err != nil {
		return gatewayWindow{}, err
	}
	after, err := cpuOf(p.cmd.Process.Pid)
	if err != nil {
		return gatewayWindow{}, err
	}
	l := ans.Load
	return gatewayWindow{
		Rate: float64(l.Calls) / l.Elapsed.Seconds(),
		P50:  micros(l.P50),
		P99:  micros(l.P99),
		CPU:  micros(after-before) / float64(l.Calls),
	}, nil
}

func medianWindow(windows []gatewayWindow) gatewayWindow {
	of := func(field func(gatewayWindow) float64) float64 {
		var values []float64
		for _, w := range windows {
			values = append(values, field(w))
		}
		return median(values)
	}
	return gatewayWindow{
		Rate: of(func(w gatewayWindow) float64 { return w.Rate }),
		P50:  of(func(w gatewayWindow) float64 { return w.P50 }),
		P99:  of(func(w gatewayWindow) float64 { return w.P99 }),
		CPU:  of(func(w gatewayWindow) float64 { return w.CPU }),
	}
}
