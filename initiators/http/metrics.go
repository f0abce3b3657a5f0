package http

import (
	"bufio"
	"cmp"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// typeFigures is the media type of Prometheus's text format.
const typeFigures = "text/plain; version=0.0.4; charset=utf-8"

// bounds are the upper ends of the buckets of latency, in nanoseconds.
var bounds = [...]time.Duration{ //nolint:gochecknoglobals // a constant, which Go has no arrays of
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// metrics are the figures of a gateway.
type metrics struct {
	refused atomic.Uint64 // requests that no entry and no route was found for

	mu      sync.Mutex
	entries map[string]*entryMetrics
}

// entry is the figures of the entry of that name, from whichever revision on.
func (m *metrics) entry(name string) *entryMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = map[string]*entryMetrics{}
	}
	e := m.entries[name]
	if e == nil {
		e = &entryMetrics{}
		m.entries[name] = e
	}
	return e
}

// keep forgets the figures of entries that are no more.
func (m *metrics) keep(still func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.entries, func(name string, _ *entryMetrics) bool { return !still(name) })
}

// entryMetrics are the figures of one entry. Counting takes no lock and looks nothing up.
type entryMetrics struct {
	inFlight atomic.Int64
	sent     atomic.Uint64 // bytes of answers
	byStatus atomic.Pointer[[]*statusMetrics]
}

// statusMetrics are the figures of the requests that were answered with one status.
type statusMetrics struct {
	status  int
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Uint64 // nanoseconds
}

func (m *entryMetrics) begin() { m.inFlight.Add(1) }

func (m *entryMetrics) end(status int, took time.Duration, sent int64) {
	m.inFlight.Add(-1)
	m.sent.Add(uint64(sent))
	s := m.of(status)
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	s.buckets[i].Add(1)
	s.sum.Add(uint64(took))
}

// of finds the figures of a status. There are few, so that a list is the fastest way.
func (m *entryMetrics) of(status int) *statusMetrics {
	for {
		list := m.byStatus.Load()
		var known []*statusMetrics
		if list != nil {
			known = *list
		}
		for _, s := range known {
			if s.status == status {
				return s
			}
		}
		s := &statusMetrics{status: status}
		longer := append(slices.Clone(known), s)
		if m.byStatus.CompareAndSwap(list, &longer) {
			return s
		}
	}
}

// Metrics is a page with the gateway's figures in Prometheus's text format.
func (g *Gateway) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeFigures)
		_ = g.WriteMetrics(w) // the client has gone
	})
}

// WriteMetrics writes the gateway's figures in Prometheus's text format: requests by entry and status with their latencies, what is in flight,
// and the entries in service and refused. The label entry is the name of one, or empty for routes that were named by their path.
func (g *Gateway) WriteMetrics(w io.Writer) error {
	f := &figures{w: bufio.NewWriter(w)}
	g.metrics.mu.Lock()
	entries := maps.Clone(g.metrics.entries)
	g.metrics.mu.Unlock()
	names := slices.Sorted(maps.Keys(entries))
	f.head("request_seconds", "histogram", "How long requests took from their header to the end of their answer.")
	for _, name := range names {
		f.latencies(name, entries[name])
	}
	f.head("in_flight", "gauge", "Requests that are worked on.")
	for _, name := range names {
		f.value("", float64(entries[name].inFlight.Load()), "entry", name)
	}
	f.head("answer_bytes_total", "counter", "Size of the bodies of answers.")
	for _, name := range names {
		f.value("", float64(entries[name].sent.Load()), "entry", name)
	}
	f.head("unmatched_total", "counter", "Requests that neither an entry nor a route was there for.")
	f.value("", float64(g.metrics.refused.Load()))
	if g.hub != nil {
		f.events(g.hub)
		f.kept(g.keeper)
	}
	t := g.table.Load()
	f.head("entries", "gauge", "Entries by whether they are in service.")
	f.value("", float64(len(t.byName)), "state", "served")
	f.value("", float64(len(t.refused)), "state", "refused")
	f.head("revision", "gauge", "The last change of the entries that this gateway knows.")
	f.value("", float64(t.revision))
	return f.w.Flush()
}

// figures are written in Prometheus's text format.
type figures struct {
	w    *bufio.Writer
	name string
}

func (f *figures) head(name, kind, help string) {
	f.name = "skybus_http_" + name
	_, _ = f.w.WriteString("# HELP " + f.name + " " + help + "\n# TYPE " + f.name + " " + kind + "\n") // Flush tells
}

// value writes a sample. Labels are pairs; they are tokens, numbers or words of ours, which need no escapes.
func (f *figures) value(suffix string, v float64, labels ...string) {
	_, _ = f.w.WriteString(f.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		_, _ = f.w.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + labels[i] + `="` + labels[i+1] + `"`)
	}
	if len(labels) > 0 {
		_, _ = f.w.WriteString("}")
	}
	_, _ = f.w.WriteString(" " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

func (f *figures) events(h *eventHub) {
	f.head("event_subscribers", "gauge", "Clients that are answered with events.")
	f.value("", float64(h.subscribers()))
	f.head("events_total", "counter", "Events that were sent, to each client.")
	f.value("", float64(h.stats.events.Load()))
	f.head("event_clients_total", "counter", "Clients of events that were cut off because they fell behind, refused because there were too many, that resumed, and that were told of a gap.")
	for _, v := range []struct {
		what string
		n    uint64
	}{{"slow", h.stats.slow.Load()}, {"refused", h.stats.refused.Load()}, {"resumed", h.stats.resumed.Load()}, {"reset", h.stats.resets.Load()}} {
		f.value("", float64(v.n), "what", v.what)
	}
}

func (f *figures) kept(k *keeper) {
	f.head("kept_total", "counter", "Requests that were answered again with what was kept for their key, taken to be answered later, answered later by this gateway, and given up by it.")
	for _, v := range []struct {
		what string
		n    uint64
	}{{"replayed", k.stats.replayed.Load()}, {"accepted", k.stats.accepted.Load()}, {"answered", k.stats.answered.Load()}, {"given_up", k.stats.givenUp.Load()}} {
		f.value("", float64(v.n), "what", v.what)
	}
}

func (f *figures) latencies(name string, m *entryMetrics) {
	list := m.byStatus.Load()
	if list == nil {
		return
	}
	for _, s := range slices.SortedFunc(slices.Values(*list), func(a, b *statusMetrics) int { return cmp.Compare(a.status, b.status) }) {
		labels := []string{"entry", name, "status", strconv.Itoa(s.status)}
		var n uint64
		for i, bound := range bounds {
			n += s.buckets[i].Load()
			f.value("_bucket", float64(n), append(labels[:4:4], "le", strconv.FormatFloat(bound.Seconds(), 'g', -1, 64))...)
		}
		n += s.buckets[len(bounds)].Load()
		f.value("_bucket", float64(n), append(labels[:4:4], "le", "+Inf")...)
		f.value("_sum", time.Duration(s.sum.Load()).Seconds(), labels...)
		f.value("_count", float64(n), labels...)
	}
}
