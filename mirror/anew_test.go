package mirror_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// removeStream removes a stream as an operator would, under a mirror that runs.
func removeStream(t *testing.T, r *rig, name string) {
	t.Helper()
	if err := r.conn.JetStream().DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// The stream that says what backends have applied is removed under a mirror: it goes on where it was, and nothing is sent from the beginning.
func TestProgressMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	cfg := mirror.Config{Ack: mirror.All, Lanes: 1}
	m, other := r.open(t, cfg), r.open(t, cfg)
	run(t, m)
	front, reads := serve(t, m), serve(t, other)
	var last uint64
	for range 50 {
		last = put(t, front.URL+"/item", "old")
	}
	status(t, m, last, 2)
	removeStream(t, r, "SKYBUS_MIRW")
	next := put(t, front.URL+"/item", "new")
	status(t, m, next, 2)
	for i, b := range r.backends {
		for _, w := range b.all()[50:] {
			if w.seq < last-5 {
				t.Errorf("backend %d was sent write %d again", i, w.seq)
			}
		}
	}
	// Who has seen higher numbers of records takes the lower ones.
	if got := do(t, http.MethodGet, reads.URL+"/item", "", "Skybus-Min-Seq", strconv.FormatUint(next, 10)); got.status != http.StatusOK || got.body != "new" {
		eventually(t, "the other process has heard of it", func() bool {
			got = do(t, http.MethodGet, reads.URL+"/item", "", "Skybus-Min-Seq", strconv.FormatUint(next, 10))
			return got.status == http.StatusOK && got.body == "new"
		})
	}
}

// The stream of writes is removed under a mirror: its numbers go on above all that there were, and nothing that was known of the old ones is said of the new ones.
func TestWritesMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.All, Lanes: 1, Cookie: "m", ReadWait: 1500 * time.Millisecond})
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/item"))
	run(t, m)
	front := serve(t, m)
	var last uint64
	for range 20 {
		last = put(t, front.URL+"/item", "old")
	}
	status(t, m, last, 2)
	if n := len(parked(t, m, mirror.ParkedFilter{})); n != 20 {
		t.Fatalf("%d are parked", n)
	}
	removeStream(t, r, "SKYBUS_MIR")
	r.backends[1].setRefuse(nil)
	var got response
	eventually(t, "a write is stored again", func() bool {
		got = do(t, http.MethodPut, front.URL+"/other", "new")
		return got.status < 300
	})
	first, err := strconv.ParseUint(got.header.Get("Skybus-Seq"), 10, 64)
	if err != nil || first < last+1_000_000 {
		t.Fatalf("%d %v %s, want a number far above %d", got.status, got.header, got.body, last)
	}
	eventually(t, "all have applied it", func() bool {
		s, err := m.WriteStatus(t.Context(), first)
		return err == nil && s.Backends["a"].State == "applied" && s.Backends["b"].State == "applied"
	})
	if s, err := m.WriteStatus(t.Context(), first); err != nil || s.Backends["b"].Status != http.StatusOK {
		t.Errorf("status %+v, %v, want what was answered to the new write", s, err)
	}
	if got := differences(t, m, mirror.DiffFilter{From: first}); len(got) > 0 {
		t.Errorf("differences %q are those of the former stream", got)
	}

	// Who asks by the numbers of the former stream is served by those that had applied it all, and no backend can begin with them.
	if got := do(t, http.MethodGet, front.URL+"/other", "", "Skybus-Min-Seq", strconv.FormatUint(last, 10)); got.status != http.StatusOK || got.body != "new" {
		t.Errorf("a read after a write of the former stream: %d %s", got.status, got.body)
	}
	if got := do(t, http.MethodGet, front.URL+"/other", "", "Cookie", fmt.Sprintf("m=%d.0", last)); got.status != http.StatusOK || got.body != "new" {
		t.Errorf("with a cookie of the former stream: %d %q", got.status, got.body)
	}
	c := mirror.Backend{Name: "c", URL: newBackend(t).URL, Active: true}
	if _, err := m.Set(t.Context(), c, mirror.From(last)); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("from a write of the former stream: %v", err)
	}
	if _, err := m.Set(t.Context(), c, mirror.From(first)); err != nil {
		t.Errorf("from the first of the present one: %v", err)
	}

	// A client that remembers numbers that there never were.
	never := strconv.FormatUint(first+5000, 10)
	if got := do(t, http.MethodGet, front.URL+"/other", "", "Skybus-Min-Seq", never); got.status != http.StatusBadRequest || !strings.Contains(got.body, "there is no write "+never) {
		t.Errorf("a read after a write that there is not: %d %s", got.status, got.body)
	}
	got = do(t, http.MethodGet, front.URL+"/other", "", "Cookie", "m="+never+".0")
	if got.status != http.StatusOK || got.body != "new" || !strings.HasPrefix(got.header.Get("Set-Cookie"), "m=; Path=/; Max-Age=0") {
		t.Errorf("with a cookie of a write that there is not: %d %q %v", got.status, got.body, got.header)
	}
}

// The stream of writes is removed while a backend is behind, and the process that sends goes on: the backend lacks what had not been read for it, also where it answers again at once,
// and what comes later is neither sent to it nor said to have reached it.
func TestBehindWhileMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Lanes: 1, Window: 10})
	stuck := make(chan struct{})
	free := sync.OnceFunc(func() { close(stuck) })
	t.Cleanup(free)
	r.backends[1].setRefuse(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			<-stuck
		}
		return false
	})
	run(t, m)
	front := serve(t, m)
	var old uint64
	for range 60 { // more than a reader asks for at once
		old = put(t, front.URL+"/item", strings.Repeat("old", 30_000))
	}
	removeStream(t, r, "SKYBUS_MIR")
	var seq uint64
	for seq == 0 {
		seq = putSeq(t, front.URL+"/item", "new")
	}
	free()
	for range 50 {
		seq = put(t, front.URL+"/item", "new")
		got := do(t, http.MethodGet, front.URL+"/item", "", "Skybus-Min-Seq", strconv.FormatUint(seq, 10))
		if got.status == http.StatusOK && got.body != "new" {
			t.Fatalf("a read after write %d has what was there before: %q", seq, got.body)
		}
	}
	eventually(t, "it is known that the second lacks some", func() bool {
		s, err := m.WriteStatus(t.Context(), seq)
		return err == nil && s.Backends["a"].State == "applied" && s.Backends["b"].State == "missing"
	})
	for _, w := range r.backends[1].all() {
		if w.seq > old {
			t.Fatalf("the second was sent %d", w.seq)
		}
	}
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "b", URL: r.backends[1].URL, Active: true}, mirror.From(seq)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is used again", func() bool { return r.backends[1].state()["/item"] == "new" })
}

// A backend that lacks writes of a former stream is out of use until it is set again, whoever sends.
func TestGapOutlivesTheSender(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	r.backends[1].setRefuse(unavailable)
	stop := run(t, m)
	front := serve(t, m)
	for range 5 {
		put(t, front.URL+"/item", "x")
	}
	eventually(t, "the first has applied them", func() bool { return len(r.backends[0].all()) == 5 })
	stop()
	removeStream(t, r, "SKYBUS_MIR")
	r.backends[1].setRefuse(nil)
	again := r.open(t, mirror.Config{})
	front = serve(t, again)
	for i := range 2 {
		stop := run(t, again)
		put(t, front.URL+"/new", strconv.Itoa(i))
		eventually(t, "the gap is known", func() bool {
			for _, c := range again.Conditions() {
				if c.Name == "b" {
					return c.State == mirror.StateGap
				}
			}
			return false
		})
		stop()
	}
	if got := r.backends[1].all(); len(got) > 0 {
		t.Errorf("the backend that lacks writes was sent %+v", got)
	}
}

func unavailable(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return false
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

// A backend that was deleted and comes back has a higher generation than ever, whatever the clock of who sets it.
func TestGenerationRises(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	old, err := m.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	// By a machine that was an hour ahead.
	ahead := old.Generation + int64(time.Hour)
	if _, err := r.conn.JetStream().Publish(t.Context(), "skybus.mirw.default.dev.default.a", fmt.Appendf(nil, `{"generation":%d,"read":0,"state":"live"}`, ahead)); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	b, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: r.backends[0].URL, Active: true})
	if err != nil || b.Generation <= ahead {
		t.Errorf("generation %d, %v, want more than %d", b.Generation, err, ahead)
	}
}

// What is parked by the number of a write, and is one of a former stream, is not taken for that write.
func TestLetterOfFormerStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	seq := put(t, front.URL+"/odd", "x")
	eventually(t, "it is parked", func() bool { return len(parked(t, m, mirror.ParkedFilter{})) == 1 })
	next := seq + 1
	old := &nats.Msg{
		Subject: fmt.Sprintf("skybus.dlq.default.dev.mirror.default.b.%d", next),
		Header:  nats.Header{"Skybus-Dead-Stored": {"2001-01-01T00:00:00Z"}, "Skybus-Dead-Status": {"410"}, "Skybus-Dead-Reference": {"taken"}},
	}
	if _, err := r.conn.JetStream().PublishMsg(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if got := put(t, front.URL+"/odd", "y"); got != next {
		t.Fatalf("write %d, want %d", got, next)
	}
	want := []string{fmt.Sprintf("b %d 409 taken", seq), fmt.Sprintf("b %d 410 taken", next)}
	if got := parked(t, m, mirror.ParkedFilter{}); !slices.Equal(got, want) {
		t.Errorf("parked %q, want %q", got, want)
	}
	if err := m.Parked().Drop(t.Context(), "b", next); err != nil {
		t.Fatal(err)
	}
	want[1] = fmt.Sprintf("b %d 409 taken", next)
	eventually(t, "it is parked once the old one was dealt with", func() bool { return slices.Equal(parked(t, m, mirror.ParkedFilter{}), want) })
}

// What waits for a backend in maintenance does not grow old.
func TestMaintenanceIsNotAge(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{MaxAge: 1500 * time.Millisecond})
	run(t, m)
	front := serve(t, m)
	set := func(maintenance bool) {
		if _, err := m.Set(t.Context(), mirror.Backend{Name: "b", URL: r.backends[1].URL, Active: true, Maintenance: maintenance}); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	begin := time.Now()
	put(t, front.URL+"/item", "x")
	eventually(t, "the write is older than any may wait", func() bool { return time.Since(begin) > 2*time.Second })
	tries := make(chan struct{}, 2)
	r.backends[1].setRefuse(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodGet {
			return false
		}
		select {
		case tries <- struct{}{}:
			return unavailable(w, q) // as one that is just starting
		default:
			return false
		}
	})
	set(false)
	eventually(t, "it is applied", func() bool { return len(r.backends[1].all()) == 1 })
	if got := parked(t, m, mirror.ParkedFilter{}); len(got) > 0 {
		t.Errorf("parked %q", got)
	}
}
