package http

import (
	"cmp"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/internal/prom"
)

// metrics are the figures of a gateway.
type metrics struct {
	refused atomic.Uint64 // requests that no entry and no route was found for

	mu       sync.Mutex
	entries  map[string]*entryMetrics
	byLimits map[string]uint64 // requests that were refused, by the limit
}

// limitPlaces is how the limit of requests of an entry at a time is called; rates are called as limit.Kind has it.
const limitPlaces = "concurrent"

// limited counts a request that a limit refused.
func (m *metrics) limited(by string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byLimits == nil {
		m.byLimits = map[string]uint64{}
	}
	m.byLimits[by]++
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
	prom.Latencies

	status int
}

func (m *entryMetrics) begin() { m.inFlight.Add(1) }

func (m *entryMetrics) end(status int, took time.Duration, sent int64) {
	m.inFlight.Add(-1)
	m.sent.Add(uint64(sent))
	m.of(status).Observe(took)
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
		w.Header().Set("Content-Type", prom.ContentType)
		_ = g.WriteMetrics(w) // the client has gone
	})
}

// WriteMetrics writes the gateway's figures in Prometheus's text format: requests by entry and status with their latencies, what is in flight,
// and the entries in service and refused. The label entry is the name of one, empty for routes that were named by their path, or (mux) for what Config.Mux serves.
func (g *Gateway) WriteMetrics(w io.Writer) error {
	f := figures{prom.NewWriter(w, "skybus_http_")}
	g.metrics.mu.Lock()
	entries, byLimits := maps.Clone(g.metrics.entries), maps.Clone(g.metrics.byLimits)
	g.metrics.mu.Unlock()
	names := slices.Sorted(maps.Keys(entries))
	f.Head("request_seconds", "histogram", "How long requests took from their header to the end of their answer.")
	for _, name := range names {
		f.latencies(name, entries[name])
	}
	f.Head("in_flight", "gauge", "Requests that are worked on.")
	for _, name := range names {
		f.Value(float64(entries[name].inFlight.Load()), "entry", name)
	}
	f.Head("answer_bytes_total", "counter", "Size of the bodies of answers.")
	for _, name := range names {
		f.Value(float64(entries[name].sent.Load()), "entry", name)
	}
	f.Head("unmatched_total", "counter", "Requests that neither an entry nor a route was there for.")
	f.Value(float64(g.metrics.refused.Load()))
	f.Head("limited_total", "counter", "Requests that were refused because of a limit: the rate of an address, of a credential, of an entry or of the gateway, how many an entry has at a time, or how many of a client wait for their answers.")
	for _, by := range []string{limit.ByIP.String(), limit.ByKey.String(), limit.ByEntry.String(), limit.ByGateway.String(), limitPlaces, limitPending} {
		f.Value(float64(byLimits[by]), "limit", by)
	}
	if g.hub != nil {
		f.events(g.hub)
		f.kept(g.keeper)
	}
	t := g.table.Load()
	f.Head("entries", "gauge", "Entries by whether they are in service.")
	f.Value(float64(len(t.byName)), "state", "served")
	f.Value(float64(len(t.refused)), "state", "refused")
	f.Head("revision", "gauge", "The last change of the entries that this gateway knows.")
	f.Value(float64(t.revision))
	return f.Flush()
}

// figures are those of a gateway on their way to who asked.
type figures struct{ *prom.Writer }

func (f figures) events(h *eventHub) {
	f.Head("event_subscribers", "gauge", "Clients that are answered with events.")
	f.Value(float64(h.subscribers()))
	f.Head("events_total", "counter", "Events that were sent, to each client.")
	f.Value(float64(h.stats.events.Load()))
	f.Head("event_clients_total", "counter", "Clients of events that were cut off because they fell behind, refused because there were too many, that resumed, and that were told of a gap.")
	for _, v := range []struct {
		what string
		n    uint64
	}{{"slow", h.stats.slow.Load()}, {"refused", h.stats.refused.Load()}, {"resumed", h.stats.resumed.Load()}, {"reset", h.stats.resets.Load()}} {
		f.Value(float64(v.n), "what", v.what)
	}
}

func (f figures) kept(k *keeper) {
	f.Head("kept_total", "counter", "Requests that were answered again with what was kept for their key, taken to be answered later, answered later by this gateway, and given up by it.")
	for _, v := range []struct {
		what string
		n    uint64
	}{{"replayed", k.stats.replayed.Load()}, {"accepted", k.stats.accepted.Load()}, {"answered", k.stats.answered.Load()}, {"given_up", k.stats.givenUp.Load()}} {
		f.Value(float64(v.n), "what", v.what)
	}
}

func (f figures) latencies(name string, m *entryMetrics) {
	list := m.byStatus.Load()
	if list == nil {
		return
	}
	for _, s := range slices.SortedFunc(slices.Values(*list), func(a, b *statusMetrics) int { return cmp.Compare(a.status, b.status) }) {
		f.Latencies(&s.Latencies, "entry", name, "status", strconv.Itoa(s.status))
	}
}
