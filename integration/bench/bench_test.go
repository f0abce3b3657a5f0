package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// TestMain lets the test binary be the processes that a measurement starts.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(start(nil, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func newBench(b *testing.B) *bench {
	b.Helper()
	return &bench{set: defaults(), progress: newProgress(io.Discard), dir: b.TempDir()}
}

// reportPair shows a figure of each side and their ratio, instead of the time of an iteration.
func reportPair(b *testing.B, unit string, skybus, byHand, ratio float64) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(skybus, "skybus-"+unit)
	b.ReportMetric(byHand, "nats.go-"+unit)
	b.ReportMetric(ratio, "ratio-"+unit)
}

func BenchmarkCall(b *testing.B) {
	for _, w := range []workload{typed, raw} {
		for _, callers := range defaults().callers {
			b.Run(fmt.Sprintf("%s/c=%d", w, callers), func(b *testing.B) {
				bench := newBench(b)
				bench.set.callers = []int{callers}
				for b.Loop() {
					all, err := bench.compare(b.Context(), w)
					if err != nil {
						b.Fatal(err)
					}
					c := all[0]
					reportPair(b, "calls/s", c.Skybus.Rate, c.NATS.Rate, c.Ratio.Rate)
					reportPair(b, "p50-us", c.Skybus.P50, c.NATS.P50, c.Ratio.P50)
					reportPair(b, "p99-us", c.Skybus.P99, c.NATS.P99, c.Ratio.P99)
					reportPair(b, "cpu-us/call", c.Skybus.CPU, c.NATS.CPU, c.Ratio.CPU)
					reportPair(b, "client-allocs/call", c.Skybus.AllocsClient, c.NATS.AllocsClient, c.Ratio.AllocsClient)
					reportPair(b, "service-allocs/call", c.Skybus.AllocsService, c.NATS.AllocsService, c.Ratio.AllocsService)
				}
			})
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	bench := newBench(b)
	for b.Loop() {
		f, err := bench.lookup(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(f.Median.Registry, "registry-ns")
		b.ReportMetric(f.Median.Config, "config-ns")
		b.ReportMetric(f.Median.Get, "kv-get-ns")
	}
}

func BenchmarkPart(b *testing.B) {
	for _, p := range parts() {
		if p.large {
			continue // go run . -only has them
		}
		b.Run(p.name, func(b *testing.B) {
			bench := newBench(b)
			for b.Loop() {
				sections, err := bench.part(b.Context(), p)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(0, "ns/op")
				for _, s := range sections {
					for _, r := range s.Rows {
						for i, v := range r.Values {
							b.ReportMetric(v, strings.ReplaceAll(s.Name+"/"+r.What+"/"+s.Columns[i], " ", "-"))
						}
					}
				}
			}
		})
	}
}

func BenchmarkPlatform(b *testing.B) {
	bench := newBench(b)
	for b.Loop() {
		up, err := bench.up(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		gateway, err := bench.gateway(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		reportPlatform(b, up, gateway)
	}
}

func reportPlatform(b *testing.B, up *upFigures, gateway []gatewayFigures) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(up.Ready, "ready-ms")
	b.ReportMetric(up.Stop, "stop-ms")
	b.ReportMetric(float64(up.Memory), "rss-B")
	b.ReportMetric(float64(up.Size.Plain), "program-B")
	b.ReportMetric(float64(up.Size.Stripped), "stripped-B")
	for _, g := range gateway {
		b.ReportMetric(g.Median.Rate, fmt.Sprintf("c=%d-requests/s", g.Callers))
		b.ReportMetric(g.Median.P50, fmt.Sprintf("c=%d-p50-us", g.Callers))
		b.ReportMetric(g.Median.P99, fmt.Sprintf("c=%d-p99-us", g.Callers))
	}
}
