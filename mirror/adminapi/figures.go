package adminapi

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// typeFigures is the media type of Prometheus's text format.
const typeFigures = "text/plain; version=0.0.4; charset=utf-8"

// figures answers with what Prometheus asks for.
func (h *Handler) figures(w http.ResponseWriter, _ *http.Request) error {
	s := h.mirror.Stats()
	f := &figures{mirror: h.mirror.Info().Name}
	f.process(&s)
	f.conditions(s.Backends)
	f.requests(s.Backends)
	f.latencies("read_seconds", "How long it took until the answer to a read began.", s.Backends, func(b *mirror.BackendStats) mirror.Latency { return b.Reads })
	f.latencies("write_seconds", "How long it took until the answer to a write was there.", s.Backends, func(b *mirror.BackendStats) mirror.Latency { return b.Writes })
	send(w, http.StatusOK, typeFigures, []byte(f.text.String()))
	return nil
}

// figures are written in Prometheus's text format.
type figures struct {
	mirror string
	name   string
	text   strings.Builder
}

func (f *figures) head(name, kind, help string) {
	f.name = "skybus_mirror_" + name
	fmt.Fprintf(&f.text, "# HELP %s %s\n# TYPE %s %s\n", f.name, help, f.name, kind)
}

// value writes a sample. Labels are pairs; they are tokens, or words of ours, which need no escapes.
func (f *figures) value(v float64, labels ...string) { f.suffixed("", v, labels...) }

func (f *figures) suffixed(suffix string, v float64, labels ...string) {
	f.text.WriteString(f.name + suffix + `{mirror="` + f.mirror + `"`)
	for i := 0; i+1 < len(labels); i += 2 {
		f.text.WriteString("," + labels[i] + `="` + labels[i+1] + `"`)
	}
	f.text.WriteString("} " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

// process is what this process has done.
func (f *figures) process(s *mirror.Stats) {
	for _, c := range []struct {
		name, help string
		value      uint64
	}{
		{"writes_stored_total", "Writes of clients that this process has stored.", s.Stored},
		{"writes_refused_total", "Writes of which nothing was stored.", s.Refused},
		{"writes_queued_total", "Writes answered with 202.", s.Queued},
		{"writes_parked_total", "Writes parked, by backend: each counts for each of them.", s.Parked},
		{"takeovers_total", "How often this process began to send.", s.Takeovers},
	} {
		f.head(c.name, "counter", c.help)
		f.value(float64(c.value))
	}
	f.head("sending", "gauge", "Whether this process sends.")
	f.value(truth(s.Sending))
}

// conditions are how the backends stand, which all processes know.
func (f *figures) conditions(all []mirror.BackendStats) {
	for _, g := range []struct {
		name, help string
		value      func(*mirror.Condition) float64
	}{
		{"waiting_writes", "Writes that the sender knows of and the backend has not applied.", func(c *mirror.Condition) float64 { return float64(c.Waiting) }},
		{"waiting_bytes", "Size of those in the sender's memory.", func(c *mirror.Condition) float64 { return float64(c.Bytes) }},
		{"lag_seconds", "Age of the oldest write in the sender's memory that the backend has not applied.", func(c *mirror.Condition) float64 { return c.Lag.Seconds() }},
		{"applied_seq", "All writes up to this one are applied by the backend.", func(c *mirror.Condition) float64 { return float64(c.Applied) }},
		{"active", "Whether the backend gets writes and reads.", func(c *mirror.Condition) float64 { return truth(c.Active) }},
		{"maintenance", "Whether writes for the backend are kept and not sent.", func(c *mirror.Condition) float64 { return truth(c.Maintenance) }},
	} {
		f.head("backend_"+g.name, "gauge", g.help)
		for _, b := range all {
			f.value(g.value(&b.Condition), "backend", b.Name)
		}
	}
	f.head("backend_state", "gauge", "1 for what the backend is to the sender.")
	for _, b := range all {
		for _, s := range []mirror.State{mirror.StateLive, mirror.StateBehind, mirror.StateDown, mirror.StateMaintenance, mirror.StateGap} {
			f.value(truth(b.Condition.State == s), "backend", b.Name, "state", string(s))
		}
	}
}

// requests are those that this process has made.
func (f *figures) requests(all []mirror.BackendStats) {
	f.head("requests_total", "counter", "Attempts at requests to a backend: get are reads, set writes but DELETE. An answer of 500 or more is a failure, as is none.")
	for _, b := range all {
		for _, k := range kinds(&b) {
			f.value(float64(k.Success), "backend", b.Name, "kind", k.name, "result", "success")
			f.value(float64(k.Failure), "backend", b.Name, "kind", k.name, "result", "failure")
		}
	}
	f.head("requests_queued", "gauge", "Requests that wait or are on their way.")
	for _, b := range all {
		for _, k := range kinds(&b) {
			f.value(float64(k.Queued), "backend", b.Name, "kind", k.name)
		}
	}
	for _, c := range []struct {
		name, help string
		value      func(*mirror.BackendStats) uint64
	}{
		{"retries_total", "Attempts at a write that another one followed.", func(b *mirror.BackendStats) uint64 { return b.Retries }},
		{"diverged_total", "Writes that the backend answered otherwise than the others.", func(b *mirror.BackendStats) uint64 { return b.Diverged }},
		{"downs_total", "How often the backend stopped taking writes.", func(b *mirror.BackendStats) uint64 { return b.Downs }},
		{"ejections_total", "How often the backend was taken out of reads, as too many failed in a row.", func(b *mirror.BackendStats) uint64 { return b.Ejected }},
	} {
		f.head(c.name, "counter", c.help)
		for _, b := range all {
			f.value(float64(c.value(&b)), "backend", b.Name)
		}
	}
	f.head("ejected", "gauge", "Whether the backend is out of reads.")
	for _, b := range all {
		f.value(truth(b.Out), "backend", b.Name)
	}
}

func (f *figures) latencies(name, help string, all []mirror.BackendStats, of func(*mirror.BackendStats) mirror.Latency) {
	f.head(name, "histogram", help)
	bounds := mirror.LatencyBounds()
	for _, b := range all {
		l := of(&b)
		var n uint64
		for i, bound := range bounds {
			n += l.Buckets[i]
			f.suffixed("_bucket", float64(n), "backend", b.Name, "le", seconds(bound))
		}
		f.suffixed("_bucket", float64(l.Count), "backend", b.Name, "le", "+Inf")
		f.suffixed("_sum", l.Sum.Seconds(), "backend", b.Name)
		f.suffixed("_count", float64(l.Count), "backend", b.Name)
	}
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) }

func truth(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// kind is what became of requests of one kind.
type kind struct {
	mirror.MethodStats

	name string
}

func kinds(b *mirror.BackendStats) []kind {
	return []kind{{b.Get, "get"}, {b.Set, "set"}, {b.Delete, "delete"}}
}

// table shows to people what became of requests, as Spawn's /metrics did.
func (a spawnAPI) table(w http.ResponseWriter, _ *http.Request) error {
	var text bytes.Buffer
	columns := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(columns, "\tGET\t\t\tSET\t\t\tDELETE\t\t\t")
	fmt.Fprintln(columns, "NODE"+strings.Repeat("\tSUCCESS\tFAILURE\tQUEUED", 3)+"\t")
	s := a.mirror.Stats()
	for _, b := range s.Backends {
		host, port := b.Condition.HostPort()
		fmt.Fprint(columns, net.JoinHostPort(host, strconv.Itoa(port)))
		for _, k := range kinds(&b) {
			fmt.Fprintf(columns, "\t%d\t%d\t%d", k.Success, k.Failure, k.Queued)
		}
		fmt.Fprintln(columns, "\t")
	}
	if err := columns.Flush(); err != nil {
		return fmt.Errorf("adminapi: %w", err)
	}
	send(w, http.StatusOK, "text/plain; charset=utf-8", text.Bytes())
	return nil
}
