package http

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

// What is published reaches a client as the format wants it: each line by itself, MessagePack as JSON, what is no text in base64.
func TestEventsOfSubject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url := serveEvents(t, r.hub(t, 10), Events{Subject: "default.dev.pub.orders.{path.id}.>", Name: "subject", Retry: route.Duration(3 * time.Second)})
	l := subscribe(t, url+"/7")
	for name, want := range map[string]string{"Content-Type": typeEvents, "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Content-Length": ""} {
		if got := l.resp.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if first := bustest.Receive(t, "the first event", l.events); first != (seen{Retry: "3000"}) {
		t.Errorf("first came %+v", first)
	}
	msgpack, err := bus.MessagePack{}.Marshal(map[string]any{"a": "<1>", "b": []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	r.publish(t, "default.dev.pub.orders.8.paid", "of another")
	r.publish(t, "default.dev.pub.orders.7", "of no event")
	for _, tt := range []struct{ name, data, contentType, want string }{
		{"paid", `{"n":1}`, "", `{"n":1}`},
		{"lines", "a\nb\r\nc\rd\n", "", "a\nb\nc\nd\n"},
		{"empty", "", "", ""},
		{"colon", ": no comment", "", ": no comment"},
		{"field", "id: 5\nevent: x\n\ndata: y", "", "id: 5\nevent: x\n\ndata: y"},
		{"packed", string(msgpack), typeMessagePack, `{"a":"<1>","b":"eA=="}`},
		{"broken", "\xc1", typeMessagePack, "wQ=="},
		{"binary", "\xff\x00", "", "/wA="},
		{"text", "ä\u2028b", "text/plain", "ä\u2028b"},
	} {
		r.publish(t, "default.dev.pub.orders.7."+tt.name, tt.data, bus.HeaderContentType, tt.contentType)
		if got := l.next(t); got != (seen{Name: tt.name, Data: tt.want}) {
			t.Errorf("%s came as %+v, want %q", tt.name, got, tt.want)
		}
	}
	l.silent(t)
}

func TestEventNames(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.hub(t, 10)
	none := subscribe(t, serveEvents(t, h, Events{Subject: "default.dev.pub.>"}))
	header := subscribe(t, serveEvents(t, h, Events{Subject: "default.dev.pub.>", Name: "header.X-Kind"}))
	for _, tt := range []struct{ kind, want string }{{"paid", "paid"}, {"", ""}, {"a\tb", ""}, {strings.Repeat("x", 65), ""}, {"ü", "ü"}} {
		r.publish(t, "default.dev.pub.a", "1", "X-Kind", tt.kind)
		if got := header.next(t); got != (seen{Name: tt.want, Data: "1"}) {
			t.Errorf("%q: %+v", tt.kind, got)
		}
		if got := none.next(t); got != (seen{Data: "1"}) {
			t.Errorf("without names: %+v", got)
		}
	}
}

// Clients of the same events share one subscription, which goes with the last of them.
func TestEventsShareSubscription(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.hub(t, 100)
	url := serveEvents(t, h, Events{Subject: "default.dev.pub.{path.id}"})
	before := r.conn.NATS().NumSubscriptions()
	var all []*listener
	for range 20 {
		all = append(all, subscribe(t, url+"/a"), subscribe(t, url+"/b"))
	}
	if n := r.conn.NATS().NumSubscriptions() - before; n != 2 {
		t.Errorf("40 clients of two subjects have %d subscriptions", n)
	}
	r.publish(t, "default.dev.pub.a", "for a")
	r.publish(t, "default.dev.pub.b", "for b")
	for i, l := range all {
		if got, want := l.next(t).Data, "for "+string("ab"[i%2]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, l := range all[2:] {
		l.stop()
	}
	bustest.Eventually(t, "two clients", func() bool { return h.subscribers() == 2 })
	r.publish(t, "default.dev.pub.a", "more")
	if got := all[0].next(t).Data; got != "more" {
		t.Errorf("%q", got)
	}
	all[0].stop()
	all[1].stop()
	bustest.Eventually(t, "no subscription", func() bool { return r.conn.NATS().NumSubscriptions() == before })
	if l := subscribe(t, url+"/a"); l != nil { // from the beginning
		r.publish(t, "default.dev.pub.a", "again")
		if got := l.next(t).Data; got != "again" {
			t.Errorf("%q", got)
		}
	}
}

// A client that takes nothing is cut off after 10 s, and what waits for it is bounded; others miss nothing.
func TestEventsSlowClient(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t)
		h := r.hub(t, 10)
		handler := eventsHandler(t, h, Events{Subject: "default.dev.pub.a", Buffer: 4096})
		p := newPipe()
		serveOn(t, p, handler)
		c := p.dial(t)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil { // and takes nothing
			t.Fatal(err)
		}
		bustest.Eventually(t, "the slow client", func() bool { return h.subscribers() == 1 })
		begin := time.Now()
		w := &head{header: http.Header{}, flushes: make(chan string)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		}()
		bustest.Receive(t, "a flush", w.flushes)
		body := strings.Repeat("x", 64<<10)
		for n := range 100 {
			r.publish(t, "default.dev.pub.a", fmt.Sprint(n, " ", body))
			if got, want := bustest.Receive(t, "a flush", w.flushes), fmt.Sprint("data: ", n, " ", body, "\n\n"); got != want {
				t.Fatalf("event %d is %.20q", n, got)
			}
			for s := range h.topic("default.dev.pub.a").snapshot() {
				s.mu.Lock()
				if s.bytes > eventBytes+len(body)+100 {
					t.Errorf("%d bytes wait", s.bytes)
				}
				s.mu.Unlock()
			}
		}
		bustest.Eventually(t, "the slow client to go", func() bool { return h.subscribers() == 1 })
		if took := time.Since(begin); h.stats.slow.Load() != 1 || took > 11*time.Second {
			t.Errorf("%d were cut off, within %v", h.stats.slow.Load(), took)
		}
		cancel()
		bustest.Receive(t, "the end", done)
	})
}

func (h *eventHub) topic(subject string) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[topicKey{subject: subject}]
}

// snapshot is the subscribers of t, if there is one.
func (t *topic) snapshot() map[*subscriber]struct{} {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[*subscriber]struct{}{}
	for s := range t.subscribers {
		all[s] = struct{}{}
	}
	return all
}

func TestSubscriberIsBounded(t *testing.T) {
	t.Parallel()
	s := newSubscriber(3)
	for i := range 3 {
		if s.put(newEvent(eventID{}, "", []byte{byte('a' + i)})) {
			t.Fatalf("slow after %d events", i)
		}
	}
	for range 2 {
		if !s.put(newEvent(eventID{}, "", nil)) {
			t.Error("a fourth event is kept")
		}
	}
	if events, slow, _ := s.take(); len(events) != 0 || !slow {
		t.Errorf("%d events, slow %v", len(events), slow)
	}
	large := newSubscriber(100)
	if large.put(newEvent(eventID{}, "", make([]byte, 2*eventBytes))) {
		t.Error("one large event does not fit")
	}
	if !large.put(newEvent(eventID{}, "", nil)) {
		t.Error("another fits beside it")
	}
	// Who waits for room gets it when something is taken.
	s = newSubscriber(1)
	done := make(chan error, 1)
	go func() {
		_ = s.offer(t.Context(), newEvent(eventID{}, "", []byte("1")))
		done <- s.offer(t.Context(), newEvent(eventID{}, "", []byte("2")))
	}()
	<-s.ready
	if events, _, _ := s.take(); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
	if err := bustest.Receive(t, "the end", done); err != nil {
		t.Error(err)
	}
}

func TestEventsLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.hub(t, 3)
	url := serveEvents(t, h, Events{Subject: "default.dev.pub.a", MaxSubscribers: 2})
	first := subscribe(t, url)
	second := subscribe(t, url)
	third := subscribe(t, url)
	if third.resp.StatusCode != http.StatusServiceUnavailable || h.stats.refused.Load() != 1 {
		t.Errorf("a third client of the entry: %s, %d refused", third.resp.Status, h.stats.refused.Load())
	}
	leave, err := h.enter("another", 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.enter("another", 10); bus.CodeOf(err) != bus.Unavailable {
		t.Errorf("a fourth client of the gateway: %v", err)
	}
	leave()
	first.stop()
	bustest.Eventually(t, "a free place", func() bool { return h.subscribers() == 1 })
	if again := subscribe(t, url); again.resp.StatusCode != http.StatusOK {
		t.Errorf("in the place of the first: %s", again.resp.Status)
	}
	second.stop()
}

// Placeholders are one token each, and wildcards stand in the entry alone.
func TestEventsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.hub(t, 10)
	url := serveEvents(t, h, Events{Subject: "default.dev.pub.{path.id}"})
	for _, path := range []string{"/*", "/%3E", "/a.b", "/", "/a%20b", "/%24JS", "/" + strings.Repeat("x", 65)} {
		if l := subscribe(t, url+path); l.resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", path, l.resp.Status)
		}
	}
	for accept, status := range map[string]int{
		"application/json": 406, "text/html, application/json;q=0.5": 406, "text/event-stream;q=0": 406, "text/event-stream; q=x": 406,
		"": 200, "*/*": 200, "text/*;q=0.1": 200, "application/json, TEXT/Event-Stream": 200,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url+"/a", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // there is none
		if resp.StatusCode != status {
			t.Errorf("Accept %q: %d, want %d", accept, resp.StatusCode, status)
		}
	}
}

// A client whose events the gateway may have missed is told so.
func TestEventsMissed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := subscribe(t, serveEvents(t, r.hub(t, 10), Events{Subject: "default.dev.pub.a"}))
	r.publish(t, "default.dev.pub.a", "1")
	if got := l.next(t); got.Data != "1" {
		t.Errorf("%+v", got)
	}
	r.node.Restart(t)
	if got := l.next(t); got != (seen{Name: "reset", Data: "{}"}) {
		t.Errorf("after the loss of the connection came %+v", got)
	}
	r.publish(t, "default.dev.pub.a", "2")
	if got := l.next(t); got.Data != "2" {
		t.Errorf("%+v", got)
	}
}

// head answers as a connection does whose client reads all of it, and tells of each flush.
type head struct {
	header  http.Header
	buf     bytes.Buffer
	flushes chan string
}

// Header is http.ResponseWriter's.
func (h *head) Header() http.Header { return h.header }

// WriteHeader is http.ResponseWriter's.
func (h *head) WriteHeader(int) {}

// Write is http.ResponseWriter's.
func (h *head) Write(b []byte) (int, error) { return h.buf.Write(b) }

// Flush is http.Flusher's.
func (h *head) Flush() {
	h.flushes <- h.buf.String()
	h.buf.Reset()
}

// Without events there are comments, at the end of its time the answer ends, and what waits goes out in one flush.
func TestEventsInTime(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t)
		h := r.hub(t, 10)
		handler := eventsHandler(t, h, Events{Subject: "default.dev.pub.a", MaxDuration: route.Duration(time.Minute)})
		w := &head{header: http.Header{}, flushes: make(chan string)}
		done := make(chan struct{})
		begin := time.Now()
		go func() {
			defer close(done)
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		}()
		if got := bustest.Receive(t, "a flush", w.flushes); got != "retry: 2000\n\n" {
			t.Errorf("the beginning is %q", got)
		}
		for range 2 {
			if got := bustest.Receive(t, "a flush", w.flushes); got != ":\n\n" {
				t.Errorf("%q is no comment", got)
			}
		}
		if took := time.Since(begin); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("two comments in %v", took)
		}
		for i := range 4 { // the first is on its way to a client that does not take it yet, the others wait
			r.publish(t, "default.dev.pub.a", fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		for _, want := range []string{"data: 0\n\n", "data: 1\n\ndata: 2\n\ndata: 3\n\n"} {
			if got := bustest.Receive(t, "a flush", w.flushes); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		for over := false; !over; {
			select {
			case got := <-w.flushes:
				if got != ":\n\n" {
					t.Errorf("then came %q", got)
				}
			case <-done:
				over = true
			}
		}
		if took := time.Since(begin); took < 54*time.Second || took > time.Minute {
			t.Errorf("the answer took %v, want a minute less at most a tenth", took)
		}
	})
}

// An answer may be idle for longer than requests and answers may take; when the server stops, the client is told when to come back.
func TestEventsOverServer(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t)
		h := r.hub(t, 10)
		p := newPipe()
		stop, done := serveOn(t, p, eventsHandler(t, h, Events{Subject: "default.dev.pub.a", Heartbeat: route.Duration(time.Hour)}))
		c := p.dial(t)
		go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		events := make(chan seen, 10)
		go func() {
			defer close(events)
			readEvents(resp.Body, events)
		}()
		<-events // the time to connect again
		time.Sleep(10 * time.Minute)
		r.publish(t, "default.dev.pub.a", "late")
		if e, ok := <-events; !ok || e.Data != "late" {
			t.Errorf("after 10 minutes came %+v", e)
		}
		stop()
		e := <-events
		if n, err := time.ParseDuration(e.Retry + "ms"); err != nil || n < stopRetryFirst || n > stopRetryFirst+stopRetrySpan {
			t.Errorf("the last is %+v", e)
		}
		if e, ok := <-events; ok {
			t.Errorf("after it came %+v", e)
		}
		if err := bustest.Receive(t, "the end", done); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// Many clients come and go while events are published: who is there hears all of them in order, and nothing of a client is left.
func TestEventsChurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.hub(t, 1000)
	url := serveEvents(t, h, Events{Subject: "default.dev.pub.a"})
	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := r.conn.NATS().PublishMsg(&nats.Msg{Subject: "default.dev.pub.a", Data: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(100 * time.Microsecond) // the publisher's own pace
		}
	})
	t.Run("clients", func(t *testing.T) {
		for i := range 8 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for range 3 {
					l := subscribe(t, url)
					inOrder(t, l, 20)
					l.stop()
				}
			})
		}
	})
	stop()
	publishing.Wait()
	bustest.Eventually(t, "all clients to go", func() bool { return h.subscribers() == 0 })
}

// inOrder wants n numbers, each one more than the one before.
func inOrder(t testing.TB, l *listener, n int) {
	t.Helper()
	first := 0
	for i := range n {
		var got int
		if _, err := fmt.Sscan(l.next(t).Data, &got); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = got
		}
		if got != first+i {
			t.Errorf("%d after %d others that began with %d", got, i, first)
		}
	}
}
