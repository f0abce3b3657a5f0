package mirror_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// differences lists what Diff finds, as "seq target a=status b=status -missing".
func differences(t *testing.T, m *mirror.Mirror, f mirror.DiffFilter) []string {
	t.Helper()
	list := []string{}
	for d, err := range m.Diff(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		fmt.Fprintf(&text, "%d %s %s", d.Seq, d.Method, d.Target)
		for _, name := range slices.Sorted(maps.Keys(d.Answers)) {
			fmt.Fprintf(&text, " %s=%d", name, d.Answers[name].Status)
		}
		for _, name := range d.Missing {
			text.WriteString(" -" + name)
		}
		list = append(list, text.String())
	}
	return list
}

func TestDiff(t *testing.T) {
	t.Parallel()
	m, seqs, last := disagreeing(t)
	line := func(path string, b int) string {
		return fmt.Sprintf("%d PUT %s a=200 b=%d c=200", seqs[path], path, b)
	}
	class, code, body := line("/class", 409), line("/status", 201), line("/body", 200)
	tests := map[string]struct {
		f    mirror.DiffFilter
		want []string
	}{
		"by class":           {mirror.DiffFilter{}, []string{class}},
		"by status":          {mirror.DiffFilter{By: mirror.ByStatus}, []string{class, code}},
		"by body":            {mirror.DiffFilter{By: mirror.ByBody}, []string{class, code, body}},
		"from":               {mirror.DiffFilter{By: mirror.ByBody, From: seqs["/class"] + 1}, []string{code, body}},
		"from itself":        {mirror.DiffFilter{By: mirror.ByBody, From: seqs["/body"]}, []string{body}},
		"to":                 {mirror.DiffFilter{By: mirror.ByBody, To: seqs["/body"] - 1}, []string{class, code}},
		"beyond the end":     {mirror.DiffFilter{By: mirror.ByBody, From: last + 10}, []string{}},
		"those that agree":   {mirror.DiffFilter{By: mirror.ByBody, Backends: []string{"a", "c"}}, []string{}},
		"one with itself":    {mirror.DiffFilter{By: mirror.ByBody, Backends: []string{"b"}}, []string{}},
		"nothing in between": {mirror.DiffFilter{By: mirror.ByBody, From: seqs["/class"] + 1, To: seqs["/status"] - 1}, []string{}},
	}
	for name, tt := range tests {
		if got := differences(t, m, tt.f); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	for _, f := range []mirror.DiffFilter{{By: "taste"}, {Backends: []string{"z"}}} {
		for _, err := range m.Diff(t.Context(), f) {
			if code := bus.CodeOf(err); code != bus.InvalidArgument && code != bus.NotFound {
				t.Errorf("%+v: %v", f, err)
			}
		}
	}
}

// disagreeing is a mirror with 300 writes, of which the second of its backends answers three differently, and its last write.
func disagreeing(t *testing.T) (m *mirror.Mirror, seqs map[string]uint64, last uint64) {
	t.Helper()
	r := newRig(t, 3)
	m = r.open(t, mirror.Config{Ack: mirror.All})
	r.backends[1].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		switch req.URL.Path {
		case "/class":
			w.WriteHeader(http.StatusConflict)
		case "/status":
			w.WriteHeader(http.StatusCreated)
		case "/body":
			_, _ = io.WriteString(w, "another")
		default:
			return false
		}
		return true
	})
	stop := run(t, m)
	front := serve(t, m)
	seqs = map[string]uint64{}
	for i := range 300 {
		switch i {
		case 50, 150, 250:
			path := map[int]string{50: "/class", 150: "/status", 250: "/body"}[i]
			seqs[path] = put(t, front.URL+path, "x")
		case 200:
			stop()
			stop = run(t, m)
		default:
			last = put(t, front.URL+fmt.Sprintf("/item/%d", i), "x")
		}
	}
	status(t, m, last, 3)
	return m, seqs, last
}

// Whoever has seen enough leaves nothing behind.
func TestDiffLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	run(t, m)
	front := serve(t, m)
	for range 2 {
		status(t, m, put(t, front.URL+"/odd", "x"), 2)
	}
	found := 0
	for _, err := range m.Diff(t.Context(), mirror.DiffFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
		break
	}
	stream, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIRL")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n > 0 || found != 1 {
		t.Errorf("%d consumers left after %d differences", n, found)
	}
}

// A backend that has not answered is missing, and after a repair its last answers count.
func TestDiffAfterRepair(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	run(t, m)
	front := serve(t, m)
	first := put(t, front.URL+"/even", "x")
	odd := put(t, front.URL+"/odd", "x")
	last := put(t, front.URL+"/last", "x")
	for _, seq := range []uint64{first, odd, last} {
		status(t, m, seq, 2)
	}
	want := []string{fmt.Sprintf("%d PUT /odd a=200 b=409", odd)}
	if got := differences(t, m, mirror.DiffFilter{}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	r.backends[1].setRefuse(nil)
	if _, err := m.Repair(t.Context(), "b", odd); err != nil {
		t.Fatal(err)
	}
	status(t, m, last, 2)
	eventually(t, "repaired", func() bool { return len(differences(t, m, mirror.DiffFilter{})) == 0 })
	r.backends[1].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "c", URL: newBackend(t).URL, Active: true}); err != nil {
		t.Fatal(err)
	}
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	seq := put(t, front.URL+"/odd", "x")
	status(t, m, seq, 2)
	want = []string{fmt.Sprintf("%d PUT /odd a=409 c=200 -b", seq)}
	if got := differences(t, m, mirror.DiffFilter{}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A backend that has lost all is sent all writes again, and ends as the others.
func TestRepair(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	run(t, m)
	front := serve(t, m)
	for i := range 400 {
		method := http.MethodPut
		if i%7 == 3 {
			method = http.MethodDelete
		}
		do(t, method, front.URL+fmt.Sprintf("/item/%d", i%50), fmt.Sprint(i))
	}
	b := r.backends[1]
	b.mu.Lock()
	clear(b.content)
	b.log = nil
	b.mu.Unlock()
	for seq, from := range map[uint64]uint64{0: 0, 1: 0} {
		set, err := m.Repair(t.Context(), "b", seq)
		if err != nil || set.From != from {
			t.Fatalf("from %d: %v, %+v", seq, err, set)
		}
		eventually(t, "repair", func() bool { return maps.Equal(b.state(), r.backends[0].state()) && level(m, "b") })
	}
	lanes := map[string]uint64{}
	writes := b.all()
	for _, w := range writes[len(writes)-400:] {
		if w.seq <= lanes[w.lane] {
			t.Errorf("lane %s: write %d after %d", w.lane, w.seq, lanes[w.lane])
		}
		lanes[w.lane] = w.seq
	}
	if got := parked(t, m, mirror.ParkedFilter{}); len(got) > 0 {
		t.Errorf("parked %q by a repair", got)
	}
	last, err := m.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Repair(t.Context(), "b", last+2); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("from a write that is not there: %v", err)
	}
	if _, err := m.Repair(t.Context(), "z", 1); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("backend that is not there: %v", err)
	}
}

// level tells whether a backend has applied all that was stored.
func level(m *mirror.Mirror, name string) bool {
	for _, c := range m.Conditions() {
		if c.Name == name {
			return c.State == mirror.StateLive && c.Waiting == 0 && c.Applied >= 400
		}
	}
	return false
}

// A backend whose writes were removed takes no part until it is set again, with another's data.
func TestGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.All, AnswerTimeout: time.Second})
	stop := run(t, m)
	front := serve(t, m)
	put(t, front.URL+"/first", "x")
	c := mirror.Backend{Name: "c", URL: r.backends[2].URL, Active: true, Maintenance: true}
	if _, err := m.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i := range 50 {
		last = put(t, front.URL+fmt.Sprintf("/item/%d", i), "x")
	}
	status(t, m, last, 2)
	stop()
	removeUpTo(t, r.conn, last-10)
	c.Maintenance = false
	if _, err := m.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	run(t, m)
	eventually(t, "gap", func() bool { return m.Conditions()[2].State == mirror.StateGap })
	before := len(r.backends[2].all())
	if got := do(t, http.MethodPut, front.URL+"/later", "x"); got.status != http.StatusOK || got.header.Get("Skybus-Seq") == "" {
		t.Errorf("write while one is out of use: %d", got.status)
	}
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd")) // of two, one is no majority, and both have answered
	seq := put(t, front.URL+"/odd", "x")
	eventually(t, "letter", func() bool { return len(parked(t, m, mirror.ParkedFilter{Backend: "a"})) == 1 })
	if got := r.backends[2].all(); len(got) != before {
		t.Errorf("backend out of use got %+v", got[before:])
	}
	_, err := m.Repair(t.Context(), "c", last-20)
	if bus.CodeOf(err) != bus.FailedPrecondition || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("begin with %d or later", last-9)) {
		t.Errorf("from a write that was removed: %v", err)
	}
	if _, err := m.Set(t.Context(), c, mirror.From(seq+1)); err != nil {
		t.Fatal(err)
	}
	seq = put(t, front.URL+"/again", "x")
	status(t, m, seq, 3)
	if got := r.backends[2].all(); len(got) != before+1 || got[before].seq != seq {
		t.Errorf("backend got %+v", got[before:])
	}
}

// A write that every backend lacks, since each needs another's data first, is not said to be applied.
func TestStatusWhereAllHaveAGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{Ack: mirror.Queued})
	front := serve(t, m)
	do(t, http.MethodPut, front.URL+"/x", "x")
	removeUpTo(t, r.conn, 1)
	run(t, m)
	eventually(t, "gap", func() bool { return m.Conditions()[0].State == mirror.StateGap })
	got := do(t, http.MethodPut, front.URL+"/x", "y")
	s := statusOf(t, do(t, http.MethodGet, front.URL+got.header.Get("Location"), ""))
	if s.State != "queued" || s.Backends["a"].State != "missing" {
		t.Errorf("status %+v, want queued, as the only backend has a gap", s)
	}
}

// removeUpTo does as if all had applied writes and they were not kept.
func removeUpTo(t *testing.T, conn *bus.Conn, seq uint64) {
	t.Helper()
	js := conn.JetStream()
	if _, err := js.Publish(t.Context(), "skybus.mirw.default.dev.default._", fmt.Appendf(nil, `{"up_to":%d}`, seq)); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "SKYBUS_MIR")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(seq+1)); err != nil {
		t.Fatal(err)
	}
}
