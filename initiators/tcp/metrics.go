package tcp

import (
	"io"
	"maps"
	"slices"

	"github.com/skybus-io/skybus/internal/prom"
)

// WriteMetrics writes the figures of servers in Prometheus's text format. The label listener is what they are called.
func WriteMetrics(w io.Writer, servers map[string]*Server) error {
	f := prom.NewWriter(w, "skybus_tcp_")
	names := slices.Sorted(maps.Keys(servers))
	all := map[string]Stats{}
	f.Head("request_seconds", "histogram", "How long requests took from when they were sent on to their answer, by whether there was a good one.")
	for _, name := range names {
		s := servers[name]
		all[name] = s.Stats()
		f.Latencies(&s.counts.good, "listener", name, "result", "ok")
		f.Latencies(&s.counts.bad, "listener", name, "result", "error")
	}
	for _, family := range []struct {
		name, kind, help string
		value            func(Stats) float64
	}{
		{"connections", "gauge", "Connections that are open.", func(s Stats) float64 { return float64(s.Connections) }},
		{"connections_total", "counter", "Connections that were served.", func(s Stats) float64 { return float64(s.Accepted) }},
		{"in_flight", "gauge", "Requests that are worked on.", func(s Stats) float64 { return float64(s.InFlight) }},
		{"frames_total", "counter", "Frames that were read.", func(s Stats) float64 { return float64(s.Frames) }},
		{"held_total", "counter", "Frames that a rate made wait.", func(s Stats) float64 { return float64(s.Held) }},
	} {
		f.Head(family.name, family.kind, family.help)
		for _, name := range names {
			f.Value(family.value(all[name]), "listener", name)
		}
	}
	f.Head("refused_total", "counter", "Connections that were refused or hung up on, and frames that were not sent on, by the reason.")
	for _, name := range names {
		for _, r := range reasons() {
			f.Value(float64(all[name].Refused[r]), "listener", name, "reason", string(r))
		}
	}
	return f.Flush()
}
