package http

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

// office is a gateway with an entry called report that may be answered later.
type office struct {
	*later

	h http.Handler
}

// office makes a gateway whose entry is answered by next. Who asks stands in the header User.
func (r *rig) office(t testing.TB, cfg Async, next http.HandlerFunc) *office {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	records, err := openAnswers[laterRecord](t.Context(), r.conn, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := openLater(t.Context(), r.conn); err != nil {
		t.Fatal(err)
	}
	l := &later{
		conn: r.conn, records: records, log: slog.New(slog.DiscardHandler), places: 8, stats: &keptStats{},
		answerer: func(entry string) (http.Handler, Async, bool) { return next, cfg, entry == "report" },
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reports/{id}", func(w http.ResponseWriter, r *http.Request) {
		fail := func(err error) { writeProblem(w, err) }
		p := parsePrefer(r.Header.Values("Prefer"))
		if !p.async && !cfg.Always {
			next(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		work := newWork(r, "report", body, map[string]string{"id": r.PathValue("id")})
		work.Subject = r.Header.Get("User")
		l.accept(w, r, p, work, fail)
	})
	mux.HandleFunc("GET "+requestsPath, func(w http.ResponseWriter, r *http.Request) {
		l.status(w, r, func(string) (string, bool) { return r.Header.Get("User"), true }, func(err error) { writeProblem(w, err) })
	})
	return &office{l, mux}
}

// works has the gateway do what is answered later until stop is called or the test ends.
func (o *office) works(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { o.run(ctx, &laterLull{log: o.log}) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// ask sends a request that may be answered later, and returns where to ask for the answer.
func (o *office) ask(t testing.TB, body string, headers ...string) (location string) {
	t.Helper()
	resp := ask(o.h, http.MethodPost, "/reports/7?q=1", body, append([]string{"Prefer", "respond-async", "Content-Type", typeJSON}, headers...)...)
	location = resp.Header.Get("Location")
	if resp.StatusCode != http.StatusAccepted || !strings.HasPrefix(location, requestsPath) || resp.Header.Get("Preference-Applied") != "respond-async" ||
		resp.Header.Get("Retry-After") == "" {
		t.Fatalf("%s %v %s", resp.Status, resp.Header, text(t, resp))
	}
	return location
}

// status is how a request stands.
type status struct {
	ID, State string
	Attempts  int
	Error     string
	Finished  time.Time
	Expires   time.Time
	Answer    struct {
		Status   int
		Type     string
		Header   map[string][]string
		Body     any
		Encoding string
		Size     int
	}
}

func (o *office) look(t testing.TB, location string, headers ...string) (s status, resp *http.Response) {
	t.Helper()
	resp = ask(o.h, http.MethodGet, location, "", headers...)
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(text(t, resp)), &s); err != nil {
			t.Fatal(err)
		}
	}
	return s, resp
}

// finished waits until a request is not pending any more.
func (o *office) finished(t testing.TB, location string) (s status) {
	t.Helper()
	bustest.Eventually(t, "the answer", func() bool {
		var resp *http.Response
		s, resp = o.look(t, location)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", resp.Status, text(t, resp))
		}
		return s.State != statePending
	})
	return s
}

// The answer that comes later is the one that would have come.
func TestAsync(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	release := make(chan struct{})
	o := r.office(t, Async{}, func(w http.ResponseWriter, r *http.Request) {
		bustest.Hold(t, release)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", typeJSON)
		w.Header().Set("X-A", "1")
		w.WriteHeader(http.StatusCreated)
		later := laterOf(r.Context())
		fmt.Fprintf(w, `{"path":%q,"id":%q,"body":%s,"type":%q,"user":%q,"auth":%q,"own":%v}`,
			r.URL, r.PathValue("id"), body, r.Header.Get("Content-Type"), r.Header.Get("User"), r.Header.Get("Authorization")+r.Header.Get("Cookie"), later != nil && later.Key == keyOf(r.Context()))
	})
	o.works(t)
	location := o.ask(t, `{"a":1}`, "User", "ann", "Authorization", "Bearer secret", "Cookie", "c=secret")
	s, resp := o.look(t, location, "User", "ann")
	if s.State != statePending || s.ID != strings.TrimPrefix(location, requestsPath) || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", s, resp.Header)
	}
	stream, err := r.conn.JetStream().Stream(t.Context(), LaterStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || bytes.Contains(m.Data, []byte("secret")) || m.Subject != "skybus.http.default.dev.report" {
		t.Errorf("%s holds %q, %v", m.Subject, m.Data, err)
	}
	close(release)
	bustest.Eventually(t, "the answer", func() bool {
		s, _ = o.look(t, location, "User", "ann")
		return s.State != statePending
	})
	want := `{"path":"/reports/7?q=1","id":"7","body":{"a":1},"type":"application/json","user":"ann","auth":"","own":true}`
	got, err := json.Marshal(s.Answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var wanted any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, s.Answer.Body); diff != "" {
		t.Errorf("%s (-want +got):\n%s", got, diff)
	}
	if s.State != stateDone || s.Answer.Status != http.StatusCreated || s.Answer.Type != typeJSON || s.Answer.Header["X-A"] == nil || s.Attempts != 1 ||
		s.Expires.Sub(s.Finished) != time.Hour {
		t.Errorf("%+v", s)
	}
	raw := ask(o.h, http.MethodGet, location+"/answer", "", "User", "ann")
	if body := text(t, raw); raw.StatusCode != http.StatusCreated || body != want || raw.Header.Get("Content-Type") != typeJSON || raw.Header.Get("X-A") != "1" {
		t.Errorf("%s %v %s", raw.Status, raw.Header, body)
	}
	if n := emptied(t, stream); n != 1 {
		t.Errorf("the request was given out %d times until it was taken from the queue", n)
	}
}

// emptied waits until nothing is to be answered later any more, and returns how often something was given out for that.
func emptied(t testing.TB, stream jetstream.Stream) (deliveries uint64) {
	t.Helper()
	bustest.Eventually(t, "an empty queue", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
	consumer, err := stream.Consumer(t.Context(), "default=dev")
	if err != nil {
		t.Fatal(err)
	}
	return consumer.CachedInfo().Delivered.Consumer
}

// Nobody but who made a request may know of it.
func TestAsyncSecret(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	o := r.office(t, Async{}, nil)
	location := o.ask(t, "", "User", "ann")
	if _, resp := o.look(t, location, "User", "ann"); resp.StatusCode != http.StatusOK {
		t.Errorf("who made it: %s", resp.Status)
	}
	for _, headers := range [][]string{nil, {"User", "bob"}} {
		if resp := ask(o.h, http.MethodGet, location, "", headers...); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s", headers, resp.Status)
		}
	}
	for _, id := range []string{"", "x", "a.b", "*", "%3E", strings.Repeat("x", 65), "answer"} {
		if resp := ask(o.h, http.MethodGet, requestsPath+id, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s", id, resp.Status)
		}
	}
}

func TestAsyncWait(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	release := make(chan struct{})
	o := r.office(t, Async{}, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == "slow" {
			bustest.Hold(t, release)
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("done"))
	})
	o.works(t)
	fast := ask(o.h, http.MethodPost, "/reports/7", "", "Prefer", "respond-async, wait=30")
	if text(t, fast) != "done" || fast.StatusCode != http.StatusTeapot || fast.Header.Get("Location") == "" || fast.Header.Get("Preference-Applied") != "respond-async, wait=30" {
		t.Errorf("%s %v", fast.Status, fast.Header)
	}
	slow := ask(o.h, http.MethodPost, "/reports/7", "slow", "Prefer", "respond-async; wait=9, wait=1")
	if slow.StatusCode != http.StatusAccepted || slow.Header.Get("Preference-Applied") != "respond-async, wait=1" {
		t.Errorf("%s %v", slow.Status, slow.Header)
	}
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	s, resp := o.look(t, slow.Header.Get("Location"), "Prefer", "wait=30")
	if s.State != stateFailed || s.Answer.Status != http.StatusTeapot || s.Answer.Body != "done" || resp.Header.Get("Preference-Applied") != "wait=30" {
		t.Errorf("%+v %v", s, resp.Header)
	}
	if sync := ask(o.h, http.MethodPost, "/reports/7", "", "Prefer", "wait=30"); sync.StatusCode != http.StatusTeapot || sync.Header.Get("Location") != "" {
		t.Errorf("without respond-async: %s", sync.Status)
	}
}

// A request that another gateway took is done by whoever is there.
func TestAsyncByAnother(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	took := r.office(t, Async{}, func(http.ResponseWriter, *http.Request) { t.Error("it works") })
	location := took.ask(t, "")
	if s, _ := took.look(t, location); s.State != statePending {
		t.Errorf("%+v", s)
	}
	other := bareRig(t, r.node).office(t, Async{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("by the other")) })
	other.works(t)
	for _, o := range []*office{took, other} {
		if s := o.finished(t, location); s.State != stateDone || s.Answer.Body != "by the other" {
			t.Errorf("%+v", s)
		}
	}
}

// A gateway that stops gives back what it cannot finish, and another does it, with the same key.
func TestAsyncGivenBack(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	keys := make(chan string, 10)
	first := r.office(t, Async{Attempts: 1}, func(w http.ResponseWriter, r *http.Request) {
		keys <- keyOf(r.Context())
		<-r.Context().Done()
		w.WriteHeader(499)
	})
	second := bareRig(t, r.node).office(t, Async{Attempts: 1}, func(w http.ResponseWriter, r *http.Request) {
		keys <- keyOf(r.Context())
		_, _ = w.Write([]byte("done"))
	})
	stop := first.works(t)
	location := first.ask(t, "")
	key := bustest.Receive(t, "the first", keys)
	stop()
	second.works(t)
	if s := second.finished(t, location); s.State != stateDone || s.Attempts != 1 {
		t.Errorf("%+v", s)
	}
	if again := bustest.Receive(t, "the second", keys); again != key || key == "" {
		t.Errorf("keys %q and %q", key, again)
	}
}

func TestAsyncAnswers(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	msgpack, err := bus.MessagePack{}.Marshal(map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]struct {
		code     int
		media    string
		body     string
		state    string
		want     any
		encoding string
		size     int
	}{
		"json":   {200, typeJSON, `[1]`, stateDone, []any{1.0}, "", 0},
		"fake":   {200, typeJSON, `[1`, stateDone, "[1", "", 0},
		"pack":   {200, typeMessagePack, string(msgpack), stateDone, map[string]any{"a": 1.0}, "", 0},
		"text":   {200, "text/plain", "ä", stateDone, "ä", "", 0},
		"binary": {200, "image/png", "\xff\x00", stateDone, "/wA=", "base64", 0},
		"empty":  {204, "", "", stateDone, nil, "", 0},
		"bad":    {404, "application/problem+json", `{"detail":"no"}`, stateFailed, map[string]any{"detail": "no"}, "", 0},
		"large":  {201, "text/plain", strings.Repeat("x", 2000), stateDone, nil, "", 2000},
		"moved":  {303, "", "", stateDone, nil, "", 0},
	}
	o := r.office(t, Async{Always: true, MaxAnswer: 1000}, func(w http.ResponseWriter, r *http.Request) {
		a := answers[r.PathValue("id")]
		if a.media != "" {
			w.Header().Set("Content-Type", a.media)
		}
		w.WriteHeader(a.code)
		_, _ = io.WriteString(w, a.body)
	})
	pending := ask(o.h, http.MethodPost, "/reports/"+slices.Sorted(maps.Keys(answers))[0], "").Header.Get("Location")
	if raw := ask(o.h, http.MethodGet, pending+"/answer", ""); raw.StatusCode != http.StatusAccepted || raw.Header.Get("Retry-After") == "" {
		t.Errorf("an answer that is not there yet: %s %v", raw.Status, raw.Header)
	}
	o.works(t)
	for name, tt := range answers {
		location := ask(o.h, http.MethodPost, "/reports/"+name, "").Header.Get("Location")
		s := o.finished(t, location)
		if s.State != tt.state || s.Answer.Status != tt.code || s.Answer.Type != tt.media || s.Answer.Encoding != tt.encoding || s.Answer.Size != tt.size {
			t.Errorf("%s: %+v", name, s)
		}
		if diff := cmp.Diff(tt.want, s.Answer.Body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		raw := ask(o.h, http.MethodGet, location+"/answer", "")
		if tt.size > 0 {
			if body := text(t, raw); raw.StatusCode != http.StatusGone || !strings.Contains(body, "too large to be kept") {
				t.Errorf("%s raw: %s %s", name, raw.Status, body)
			}
		} else if raw.StatusCode != tt.code || text(t, raw) != tt.body {
			t.Errorf("%s raw: %s", name, raw.Status)
		}
	}
}

// Passing errors are tried again with a backoff, and given up in the end. What is kept is forgotten in time.
func TestAsyncInTime(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		var calls atomic.Int64
		var keys []string
		o := r.office(t, Async{Attempts: 4, Keep: route.Duration(2 * time.Hour)}, func(w http.ResponseWriter, r *http.Request) {
			n := calls.Add(1)
			keys = append(keys, keyOf(r.Context()))
			if n < 3 || r.URL.Query().Get("q") == "2" {
				writeProblem(w, bus.Errorf(bus.Unavailable, "not yet"))
				return
			}
			_, _ = w.Write([]byte("done"))
		})
		o.works(t)
		location := o.ask(t, "")
		time.Sleep(time.Minute)
		s := o.finished(t, location)
		if s.State != stateDone || s.Attempts != 3 || calls.Load() != 3 || len(slices.Compact(keys)) != 1 {
			t.Errorf("%+v, %d calls, keys %q", s, calls.Load(), keys)
		}
		bad := ask(o.h, http.MethodPost, "/reports/7?q=2", "", "Prefer", "respond-async").Header.Get("Location")
		time.Sleep(time.Minute)
		resp := ask(o.h, http.MethodGet, bad, "")
		if says := detail(t, resp); resp.StatusCode != http.StatusGone || !strings.Contains(says, "4 attempts") || !strings.Contains(says, "503 Service Unavailable: not yet") {
			t.Errorf("%s %s", resp.Status, says)
		}
		if calls.Load() != 7 {
			t.Errorf("%d calls", calls.Load())
		}
		time.Sleep(117 * time.Minute)
		if _, resp := o.look(t, location); resp.StatusCode != http.StatusOK {
			t.Errorf("after 1 h 59 min: %s", resp.Status)
		}
		time.Sleep(4 * time.Minute)
		for _, l := range []string{location, bad} {
			if _, resp := o.look(t, l); resp.StatusCode != http.StatusNotFound {
				t.Errorf("after 2 h: %s", resp.Status)
			}
		}
	})
}

func TestAsyncConfig(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]Async{
		"":                  {Always: true, Keep: route.Duration(time.Hour), Timeout: route.Duration(time.Hour), Attempts: 1000, MaxAnswer: 512 << 10},
		"async.keep":        {Keep: route.Duration(time.Second)},
		"async.timeout":     {Timeout: route.Duration(2 * time.Hour)},
		"async.attempts":    {Attempts: -1},
		"async.max_answer":  {MaxAnswer: 1 << 20},
		"async.max_pending": {MaxPending: -1},
	} {
		err := cfg.Validate()
		if field == "" && err != nil || field != "" && (bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != field) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
