package mirror_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// parked lists what is parked, as "backend seq status others".
func parked(t *testing.T, m *mirror.Mirror, f mirror.ParkedFilter) []string {
	t.Helper()
	list := []string{}
	for w, err := range m.Parked().List(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(w.Backend, " ", w.Seq, " ", w.Status, " ", w.Others))
	}
	return list
}

func TestDivergentWritesAreParked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answers []int // to one write, by backend
		want    []string
	}{
		"all took it":            {[]int{200, 201, 204}, nil},
		"one refused":            {[]int{200, 409, 200}, []string{"b 409 taken"}},
		"the first refused":      {[]int{400, 200, 200}, []string{"a 400 taken"}},
		"one failed":             {[]int{200, 200, 500}, []string{"c 500 taken"}},
		"most refused":           {[]int{404, 200, 404}, []string{"b 200 refused"}},
		"all refused":            {[]int{404, 409, 400}, nil},
		"all failed":             {[]int{500, 500, 500}, nil},
		"each another":           {[]int{200, 404, 500}, []string{"b 404 taken", "c 500 taken"}},
		"nobody took it":         {[]int{404, 500}, []string{"b 500 refused"}},
		"one each":               {[]int{404, 200}, []string{"a 404 taken"}},
		"one alone":              {[]int{404}, nil},
		"two of four":            {[]int{404, 404, 200, 200}, []string{"a 404 taken", "b 404 taken"}},
		"a redirect is taken":    {[]int{302, 200, 200}, nil},
		"failed and refused all": {[]int{500, 404, 404}, []string{"a 500 refused"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, len(tt.answers))
			m := r.open(t, mirror.Config{Ack: mirror.All, Tries: 2})
			for i, b := range r.backends {
				if tt.answers[i] != http.StatusOK {
					b.setRefuse(refuseWith(tt.answers[i], "/odd"))
				}
			}
			run(t, m)
			front := serve(t, m)
			seq := put(t, front.URL+"/odd", "x")
			want := []string{}
			for _, s := range tt.want {
				words := strings.Fields(s)
				want = append(want, fmt.Sprintf("%s %d %s %s", words[0], seq, words[1], words[2]))
			}
			got := parked(t, m, mirror.ParkedFilter{})
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("parked %q, want %q", got, want)
			}
		})
	}
}

// The answer of one that was down decides, also under another sender: what was answered before is read from the ledger.
func TestDivergenceOutlivesTheSender(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{})
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	r.backends[2].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	stop := run(t, m)
	front := serve(t, m)
	seq := put(t, front.URL+"/odd", "x")
	agreed := put(t, front.URL+"/even", "x")
	status(t, m, seq, 2)
	status(t, m, agreed, 2)
	if got := parked(t, m, mirror.ParkedFilter{}); len(got) > 0 {
		t.Fatalf("parked %q before the third has answered", got)
	}
	stop()
	run(t, m)
	r.backends[2].setRefuse(nil)
	status(t, m, agreed, 3)
	eventually(t, "letter", func() bool { return len(parked(t, m, mirror.ParkedFilter{})) > 0 })
	if got, want := parked(t, m, mirror.ParkedFilter{}), []string{fmt.Sprintf("a %d 409 taken", seq)}; !slices.Equal(got, want) {
		t.Errorf("parked %q, want %q", got, want)
	}
}

// A reference is also known when the backend that was waited for is no longer one.
func TestDivergenceWhenBackendLeaves(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{})
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	r.backends[2].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	run(t, m)
	front := serve(t, m)
	seq := put(t, front.URL+"/odd", "body")
	status(t, m, seq, 2)
	if err := m.Delete(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "letter", func() bool { return len(parked(t, m, mirror.ParkedFilter{Backend: "a"})) > 0 })
	w, err := m.Parked().Show(t.Context(), "a", seq)
	if err != nil || !strings.HasSuffix(string(w.Request), "\r\n\r\nbody") || !strings.Contains(string(w.Answer), "not me") {
		t.Errorf("%v, %+v", err, w)
	}
}

func TestStopWaitsUntilDealtWith(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"drop", "retry"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3)
			m := r.open(t, mirror.Config{Lanes: 1, Divergence: mirror.Stop})
			r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
			stop := run(t, m)
			front := serve(t, m)
			seq := put(t, front.URL+"/odd", "x")
			next := put(t, front.URL+"/next", "x")
			eventually(t, "letter", func() bool { return len(parked(t, m, mirror.ParkedFilter{})) == 1 })
			status(t, m, next, 2)
			if how == "drop" { // the next sender waits, too
				stop()
				run(t, m)
			}
			if got := r.backends[0].all(); len(got) > 0 {
				t.Fatalf("writes after the one that stopped the lane: %+v", got)
			}
			if how == "drop" {
				eventually(t, "drop", func() bool { // the next sender may just have parked it again
					_ = m.Parked().Drop(t.Context(), "a", seq)
					return len(r.backends[0].all()) > 0
				})
			} else {
				r.backends[0].setRefuse(nil)
				if _, err := m.Parked().Retry(t.Context(), "a", seq); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "lane going on", func() bool {
				all := r.backends[0].all()
				return len(all) > 0 && all[len(all)-1].seq == next
			})
			if err := m.Parked().Drop(t.Context(), "a", seq); how == "retry" && bus.CodeOf(err) != bus.NotFound {
				t.Errorf("drop again: %v, want not_found", err)
			}
		})
	}
}

// A lane stops also while it is not known whether the others agree.
func TestStopWithoutReference(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Lanes: 1, Divergence: mirror.Stop, AnswerTimeout: 300 * time.Millisecond})
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	r.backends[1].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	run(t, m)
	front := serve(t, m)
	put(t, front.URL+"/odd", "x")
	put(t, front.URL+"/next", "x")
	if got := r.backends[0].all(); len(got) > 0 {
		t.Fatalf("writes after the one that is not decided: %+v", got)
	}
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	eventually(t, "lanes going on", func() bool { return len(r.backends[0].all()) == 1 && len(r.backends[1].all()) == 1 })
	if got := parked(t, m, mirror.ParkedFilter{}); len(got) > 0 {
		t.Errorf("parked %q, want nothing: both refused", got)
	}
}

// Where no letter can be stored the lane waits, and nothing is lost.
func TestParkWithoutRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	var log lines
	m := r.open(t, mirror.Config{Lanes: 1, Logger: log.logger()})
	js := r.conn.JetStream()
	full := jetstream.StreamConfig{Name: "SKYBUS_DLQ", Subjects: []string{"skybus.dlq.>"}, MaxBytes: 10, Discard: jetstream.DiscardNew}
	if _, err := js.CreateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	r.backends[2].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	run(t, m)
	front := serve(t, m)
	seq := put(t, front.URL+"/odd", "x")
	next := put(t, front.URL+"/next", "x")
	eventually(t, "warning", func() bool { return log.count("write not parked") > 0 })
	if got, err := m.LedgerStatus(t.Context(), seq); err != nil || len(got) == 3 { // the lane of whoever decides waits
		t.Errorf("lanes went on: %v, %v", got, err)
	}
	full.MaxBytes = -1
	if _, err := js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	status(t, m, next, 3)
	if got, want := parked(t, m, mirror.ParkedFilter{}), []string{fmt.Sprintf("c %d 409 taken", seq)}; !slices.Equal(got, want) {
		t.Errorf("parked %q, want %q", got, want)
	}
	if n := log.count("write not parked"); n != 1 {
		t.Errorf("said %d times that there is no room, want once", n)
	}
}

// What is given up is parked, whoever else gave up.
func TestGivenUpIsParked(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{MaxAge: 200 * time.Millisecond, AnswerTimeout: 100 * time.Millisecond})
	r.backends[0].setRefuse(refuseWith(http.StatusServiceUnavailable, "/odd"))
	run(t, m)
	front := serve(t, m)
	seq := put(t, front.URL+"/odd", "x")
	eventually(t, "letter", func() bool { return len(parked(t, m, mirror.ParkedFilter{})) == 1 })
	r.backends[0].setRefuse(nil)
	w, err := m.Parked().Retry(t.Context(), "a", seq)
	if err != nil || w.Status != http.StatusOK {
		t.Errorf("retry: %v, %+v", err, w)
	}
	if got := parked(t, m, mirror.ParkedFilter{}); len(got) > 0 {
		t.Errorf("parked %q after it was taken", got)
	}
}

func TestRetryParked(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	var code atomic.Int32
	code.Store(http.StatusConflict)
	var header atomic.Pointer[http.Header]
	r.backends[0].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/odd" {
			header.Store(&req.Header)
			if n := int(code.Load()); n != http.StatusOK {
				http.Error(w, fmt.Sprintf("code %d", n), n)
				return true
			}
		}
		return false
	})
	run(t, m)
	front := serve(t, m)
	seq := put(t, front.URL+"/odd", "the body")
	other := r.second(t) // it does not run, and sees the same
	first, err := other.Parked().Show(t.Context(), "a", seq)
	if err != nil || first.Status != http.StatusConflict || first.Method != http.MethodPut || first.Target != "/odd" || !strings.Contains(string(first.Answer), "code 409") {
		t.Fatalf("%v, %+v", err, first)
	}
	before := *header.Load()
	code.Store(http.StatusGone)
	if w, err := other.Parked().Retry(t.Context(), "a", seq); bus.CodeOf(err) != bus.FailedPrecondition || w.Status != http.StatusGone {
		t.Errorf("refused again: %v, %+v", err, w)
	}
	code.Store(http.StatusServiceUnavailable)
	if _, err := other.Parked().Retry(t.Context(), "a", seq); bus.CodeOf(err) != bus.Unavailable {
		t.Errorf("too much to do: %v", err)
	}
	if got, want := parked(t, m, mirror.ParkedFilter{Backend: "a"}), []string{fmt.Sprintf("a %d 410 taken", seq)}; !slices.Equal(got, want) {
		t.Errorf("parked %q, want %q", got, want)
	}
	code.Store(http.StatusOK)
	if _, err := other.Parked().Retry(t.Context(), "a", seq); err != nil {
		t.Error(err)
	}
	after := *header.Load()
	if before.Get("Skybus-Retry") != "" || !slices.Equal(after["Skybus-Retry"], []string{"true"}) {
		t.Errorf("marked %q, and %q when retried", before["Skybus-Retry"], after["Skybus-Retry"])
	}
	for _, name := range []string{"Idempotency-Key", "Skybus-Seq", "Skybus-Lane"} {
		if before.Get(name) == "" || after.Get(name) != before.Get(name) {
			t.Errorf("%s was %q, and %q when retried", name, before.Get(name), after.Get(name))
		}
	}
	if r.backends[0].state()["/odd"] != "the body" {
		t.Errorf("backend has %q", r.backends[0].state()["/odd"])
	}
	if _, err := m.Parked().Show(t.Context(), "a", seq); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("taken, and %v", err)
	}
	for _, backend := range []string{"", "a.b", "*"} {
		if _, err := m.Parked().Show(t.Context(), backend, seq); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("backend %q: %v", backend, err)
		}
	}
}

// What a backend took when it was retried is no difference any more.
func TestRetryIsInTheLedger(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	run(t, m)
	seq := put(t, serve(t, m).URL+"/odd", "x")
	status(t, m, seq, 3)
	if got, want := differences(t, m, mirror.DiffFilter{}), []string{fmt.Sprintf("%d PUT /odd a=409 b=200 c=200", seq)}; !slices.Equal(got, want) {
		t.Errorf("differences %q, want %q", got, want)
	}
	eventually(t, "it is parked", func() bool { return len(parked(t, m, mirror.ParkedFilter{})) == 1 })
	r.backends[0].setRefuse(nil)
	if _, err := r.second(t).Parked().Retry(t.Context(), "a", seq); err != nil {
		t.Error(err)
	}
	if got := differences(t, m, mirror.DiffFilter{}); len(got) > 0 {
		t.Errorf("differences %q, though all took it", got)
	}
	if got := status(t, m, seq, 3); got["a"] != http.StatusOK {
		t.Errorf("the ledger says %v", got)
	}
	repair := func(from uint64) {
		t.Helper()
		if _, err := m.Repair(t.Context(), "a", from); err != nil {
			t.Error(err)
		}
	}
	repair(seq + 1) // it is not sent again
	if got := differences(t, m, mirror.DiffFilter{}); len(got) > 0 {
		t.Errorf("differences %q after a repair of later writes", got)
	}
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	repair(seq) // then what it answers next counts
	eventually(t, "a difference again", func() bool { return len(differences(t, m, mirror.DiffFilter{})) == 1 })
	repair(seq + 1)
	if got := differences(t, m, mirror.DiffFilter{}); len(got) != 1 {
		t.Errorf("differences %q, though it refused the write when it was sent again", got)
	}
}

// second is another process of the mirror.
func (r *rig) second(t *testing.T) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Open(t.Context(), connect(t, r.node), mirror.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}
