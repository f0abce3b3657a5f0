package http

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/route"
)

// Work of a gateway that died is done by another after 10 s; what kills gateways is given up. An attempt that takes long is not taken
// away, and one that takes too long ends.
func TestAsyncDeath(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		var calls atomic.Int64
		o := r.office(t, Async{Attempts: 2, Timeout: route.Duration(40 * time.Second)}, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			select {
			case <-time.After(30 * time.Second):
				_, _ = w.Write([]byte("done"))
			case <-r.Context().Done():
				w.WriteHeader(http.StatusGatewayTimeout)
			}
			if r.PathValue("id") == "long" {
				<-r.Context().Done()
				w.WriteHeader(http.StatusGatewayTimeout)
			}
		})
		// A gateway that takes work and dies says nothing any more.
		die := func() {
			consumer, err := o.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			msg, err := consumer.Next()
			if err != nil {
				t.Fatal(err)
			}
			work, err := readWork(msg)
			if err != nil {
				t.Fatal(err)
			}
			e, err := o.records.Get(t.Context(), o.key(work.ID))
			if err != nil {
				t.Fatal(err)
			}
			e.Value.Attempts++
			if _, err := o.records.Update(t.Context(), e.Key, e.Value, e.Revision, kv.TTL(pendingFor)); err != nil {
				t.Fatal(err)
			}
		}
		once, twice := o.ask(t, ""), ""
		die()
		stop := o.works(t)
		time.Sleep(45 * time.Second)
		if s := o.finished(t, once); s.State != stateDone || s.Attempts != 2 || calls.Load() != 1 {
			t.Errorf("%+v, %d calls", s, calls.Load())
		}
		stop()
		twice = o.ask(t, "")
		die()
		time.Sleep(laterAckWait + time.Second)
		die()
		o.works(t)
		time.Sleep(30 * time.Second)
		resp := ask(o.h, http.MethodGet, twice, "")
		if says := detail(t, resp); resp.StatusCode != http.StatusGone || !strings.Contains(says, "died") || calls.Load() != 1 {
			t.Errorf("%s %s, %d calls", resp.Status, says, calls.Load())
		}
	})
}

// Who waits for work when the connection breaks asks for it again as soon as that is back.
func TestAsyncAfterReconnect(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	o := r.office(t, Async{}, func(http.ResponseWriter, *http.Request) {})
	consumer, err := o.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	crew := &laterCrew{later: o.later, ctx: t.Context(), places: make(chan struct{}, 1), reconnected: make(chan struct{}, 1), busy: map[string]int{}}
	crew.reconnected <- struct{}{}
	begin := time.Now()
	if err := crew.fetch(t.Context(), consumer); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > laterFetchWait-time.Second {
		t.Errorf("it waited for %v", took)
	}
	crew.running.Wait()
}

// What no gateway stored is not done: neither what is written by hand nor what JetStream was made to send there.
func TestAsyncForged(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	var calls atomic.Int64
	o := r.office(t, Async{}, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	location := o.ask(t, "")
	js := r.conn.JetStream()
	stream, err := js.Stream(t.Context(), LaterStream)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	// A copy, as the answer to a direct get.
	if err := r.conn.NATS().PublishMsg(&nats.Msg{
		Subject: "$JS.API.STREAM.MSG.GET." + LaterStream, Reply: "skybus.http.default.dev.report", Data: []byte(`{"seq":1}`),
	}); err != nil {
		t.Fatal(err)
	}
	const report, other = "skybus.http.default.dev.report", "skybus.http.default.dev.other"
	for _, m := range []*nats.Msg{
		{Subject: report, Data: another(t, stored.Data)},
		{Subject: report, Data: another(t, stored.Data), Header: nats.Header{bus.HeaderContentType: {typeMessagePack}}},
		{Subject: report, Data: another(t, stored.Data), Header: nats.Header{bus.HeaderRequestID: {"a"}, bus.HeaderContentType: {typeJSON}}},
		{Subject: other, Data: another(t, stored.Data), Header: nats.Header{bus.HeaderRequestID: {"a"}, bus.HeaderContentType: {typeMessagePack}}},
		{Subject: report, Data: []byte("x"), Header: nats.Header{bus.HeaderRequestID: {"a"}, bus.HeaderContentType: {typeMessagePack}}},
		{Subject: report, Data: another(t, stored.Data), Header: nats.Header{bus.HeaderRequestID: {"a"}, bus.HeaderContentType: {typeMessagePack}, jetstream.SequenceHeader: {"1"}}},
	} {
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	o.works(t)
	if s := o.finished(t, location); s.State != stateDone {
		t.Errorf("%+v", s)
	}
	emptied(t, stream)
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

// another is a stored request with another id: once for each id is all that is done.
func another(t *testing.T, stored []byte) []byte {
	t.Helper()
	var work laterWork
	if err := (bus.MessagePack{}).Unmarshal(stored, &work); err != nil {
		t.Fatal(err)
	}
	work.ID = rand.Text()
	data, err := bus.MessagePack{}.Marshal(work)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Requests of an entry that hangs leave places for others.
func TestAsyncFair(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	release := make(chan struct{})
	var hanging atomic.Int64
	o := r.office(t, Async{}, func(w http.ResponseWriter, r *http.Request) {
		if laterOf(r.Context()).Entry == "report" {
			hanging.Add(1)
			bustest.Hold(t, release)
			hanging.Add(-1)
		}
		_, _ = w.Write([]byte("done"))
	})
	inner := o.answerer
	o.answerer = func(entry string) (http.Handler, Async, bool) {
		h, cfg, _ := inner("report")
		return h, cfg, entry == "report" || entry == "quick"
	}
	var locations []string
	for range 12 {
		locations = append(locations, o.ask(t, ""))
	}
	o.works(t)
	bustest.Eventually(t, "the first to hang", func() bool { return hanging.Load() == 4 })
	for range 10 {
		work := newWork(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/quick", nil), "quick", nil, nil)
		if err := o.store(t.Context(), work); err != nil {
			t.Fatal(err)
		}
		if s := o.finished(t, requestsPath+work.ID); s.State != stateDone {
			t.Errorf("%+v", s)
		}
	}
	if n := hanging.Load(); n != 4 {
		t.Errorf("%d hang in 8 places", n)
	}
	close(release)
	for _, l := range locations {
		if s := o.finished(t, l); s.State != stateDone || s.Attempts != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// A gateway that does not know an entry leaves its requests to one that does; what nobody knows is given up.
func TestAsyncUnknownEntry(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		o := r.office(t, Async{}, func(http.ResponseWriter, *http.Request) { t.Error("called") })
		work := newWork(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), "gone", nil, nil)
		if err := o.store(t.Context(), work); err != nil {
			t.Fatal(err)
		}
		o.works(t)
		time.Sleep(30 * time.Minute)
		if s, _ := o.look(t, requestsPath+work.ID); s.State != statePending || s.Attempts != 0 {
			t.Errorf("%+v", s)
		}
		time.Sleep(31 * time.Minute)
		resp := ask(o.h, http.MethodGet, requestsPath+work.ID, "")
		if says := detail(t, resp); resp.StatusCode != http.StatusGone || !strings.Contains(says, "no entry gone") {
			t.Errorf("%s %s", resp.Status, says)
		}
	})
}

// A request that cannot be stored is not accepted.
func TestAsyncNotStored(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	o := r.office(t, Async{Always: true}, nil)
	if resp := ask(o.h, http.MethodPost, "/reports/7", strings.Repeat("x", 1<<20)); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %s %s", resp.Status, text(t, resp))
	}
	if err := r.conn.JetStream().DeleteStream(t.Context(), LaterStream); err != nil {
		t.Fatal(err)
	}
	if resp := ask(o.h, http.MethodPost, "/reports/7", ""); resp.StatusCode != http.StatusAccepted {
		t.Errorf("the stream is made again: %s", resp.Status)
	}
	stream, err := r.conn.JetStream().Stream(t.Context(), LaterStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 1
	if _, err := r.conn.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	resp := ask(o.h, http.MethodPost, "/reports/7", "")
	if says := detail(t, resp); !strings.Contains(says, "full") || resp.StatusCode != http.StatusInsufficientStorage || resp.Header.Get("Location") != "" {
		t.Errorf("a full stream: %s %s", resp.Status, says)
	}
	n := 0
	for _, err := range o.records.List(t.Context(), "default.dev.later.*") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d records are left, want that of the request that was accepted", n)
	}
}
