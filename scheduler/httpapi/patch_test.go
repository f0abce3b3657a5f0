package httpapi_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// farAway is when a timer is due that no test waits for.
func farAway() time.Time { return time.Date(2131, 5, 1, 12, 0, 0, 5, time.UTC) }

// patcher changes the timer called mine.
type patcher struct {
	*house

	t   *testing.T
	was scheduler.Spec
}

func newPatcher(t *testing.T) *patcher {
	t.Helper()
	p := &patcher{build(t, httpapi.Config{}), t, scheduler.Spec{
		// A payload as no JSON encoder writes it.
		ID: "mine", At: farAway(), Payload: []byte(`{"b":1, "a":2.0}`), ContentType: "application/json; charset=utf-8",
		Target: scheduler.Target{URI: "http://127.0.0.1:9000/", Method: "PUT", Timeout: time.Second},
		Header: map[string]string{"X-A": "1", "X-B": "2"}, Labels: map[string]string{"team": "a"},
		Retry: scheduler.Retry{MaxAttempts: 3, MaxAge: time.Hour},
	}}
	if _, err := p.timers.Create(t.Context(), p.was); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *patcher) patch(body string) answer {
	p.t.Helper()
	return send(p.t, http.MethodPatch, p.url+"/v1/timers/mine", body, "Content-Type", "application/merge-patch+json")
}

// after is the timer once it has been patched.
func (p *patcher) after(body string) scheduler.Timer {
	p.t.Helper()
	a := p.patch(body).want(p.t, http.StatusOK)
	tm, err := p.timers.Get(p.t.Context(), "mine")
	if err != nil {
		p.t.Fatal(err)
	}
	if a.timer(p.t).Revision != tm.Revision {
		p.t.Errorf("answered %s, is %d", a.body, tm.Revision)
	}
	return tm
}

func TestPatch(t *testing.T) {
	t.Parallel()
	p := newPatcher(t)
	tm := p.after(`{"headers":{"X-A":null,"X-C":"3"},"retry":{"max_age":null},"target":{"timeout":"2s"},"labels":null}`)
	if text := encode(t, tm.Header); text != `{"X-B":"2","X-C":"3"}` {
		t.Errorf("headers %s", text)
	}
	if tm.Retry.MaxAttempts != 3 || tm.Retry.MaxAge != 0 || tm.Target.Timeout != 2*time.Second || tm.Target.Method != "PUT" || len(tm.Labels) != 0 {
		t.Errorf("%+v", tm.Spec)
	}
	if !tm.At.Equal(p.was.At) || string(tm.Payload) != string(p.was.Payload) || tm.ContentType != p.was.ContentType {
		t.Errorf("what was not named changed: %s %q %q", tm.At, tm.Payload, tm.ContentType)
	}
	before := time.Now()
	if tm = p.after(`{"after":"1h","paused":true}`); tm.Due.Sub(before) > 2*time.Hour || tm.State != scheduler.Paused {
		t.Errorf("due %s, %s", tm.Due, tm.State)
	}
	if tm = p.after(`{"at":"2131-05-02T00:00:00Z","paused":false}`); tm.Due.Year() != 2131 || tm.State != scheduler.Scheduled {
		t.Errorf("due %s, %s", tm.Due, tm.State)
	}
}

// TestPatchPayload has payloads of different forms in the place of each other.
func TestPatchPayload(t *testing.T) {
	t.Parallel()
	p := newPatcher(t)
	for _, tt := range []struct{ patch, payload, contentType string }{
		{`{"payload":{"b":null,"c":[1]}}`, `{"a":2.0,"c":[1]}`, p.was.ContentType},
		{`{"payload_text":"x"}`, "x", "text/plain; charset=utf-8"},
		{`{"content_type":"text/csv"}`, "x", "text/csv"},
		{`{"payload_text":"y"}`, "y", "text/csv"},
		{`{"payload_base64":"AP8=","content_type":"image/png"}`, "\x00\xff", "image/png"},
		{`{"labels":{"a":"b"}}`, "\x00\xff", "image/png"},
		{`{"payload":[1]}`, "[1]", "application/json"},
		{`{"payload":null}`, "", ""},
	} {
		if tm := p.after(tt.patch); string(tm.Payload) != tt.payload || tm.ContentType != tt.contentType {
			t.Errorf("after %s: %q %q, want %q %q", tt.patch, tm.ContentType, tm.Payload, tt.contentType, tt.payload)
		}
	}
}

func TestPatchRefused(t *testing.T) {
	t.Parallel()
	p := newPatcher(t)
	for body, status := range map[string]int{
		`{"at":null}`:            422,
		`{"after":null}`:         200,
		`{}`:                     200,
		`[]`:                     422,
		`null`:                   422,
		`{`:                      400,
		`{"state":"paused"}`:     400,
		`{"target":{"url":"x"}}`: 400,
		`{"target":null}`:        422,
		`{"id":"other"}`:         422,
		`{"id":"mine"}`:          200,
		`{"key":"k"}`:            422,
		`{"after":5}`:            422,
		`{"after":"1h","at":"2131-05-02T00:00:00Z"}`: 422,
	} {
		if a := p.patch(body); a.status != status {
			t.Errorf("%s: %d %s, want %d", body, a.status, a.body, status)
		} else if status != http.StatusOK {
			a.problem(t)
		}
	}
	a := send(t, http.MethodPatch, p.url+"/v1/timers/mine", `{}`, "Content-Type", "application/json-patch+json").want(t, http.StatusUnsupportedMediaType)
	if a.problem(t); a.header.Get("Accept-Patch") != "application/merge-patch+json" {
		t.Errorf("%v", a.header)
	}
}

// TestPatchRaces has patches of different fields at the same time, of which none may be lost.
func TestPatchRaces(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	mine := h.url + "/v1/timers/mine"
	made := send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"mine","after":"1h",`+target+`}`).want(t, http.StatusCreated)
	etag := made.header.Get("ETag")

	var wg sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		wg.Go(func() { answers[i] = send(t, http.MethodPatch, mine, `{"labels":{"l`+string(rune('0'+i))+`":"x"}}`) })
	}
	wg.Wait()
	done := 0
	for _, a := range answers {
		switch a.status {
		case http.StatusOK:
			done++
		case http.StatusConflict:
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if tm := send(t, http.MethodGet, mine, "").timer(t); len(tm.Labels) != done || done == 0 {
		t.Errorf("%d patches were taken, the labels are %v", done, tm.Labels)
	}

	send(t, http.MethodPatch, mine, `{"paused":true}`, "If-Match", etag).want(t, http.StatusPreconditionFailed).problem(t)
	etag = send(t, http.MethodGet, mine, "").header.Get("ETag")
	for i := range answers {
		wg.Go(func() {
			answers[i] = send(t, http.MethodPatch, mine, `{"labels":{"m`+string(rune('0'+i))+`":"x"}}`, "If-Match", etag)
		})
	}
	wg.Wait()
	done = 0
	for _, a := range answers {
		if a.status == http.StatusOK {
			done++
		} else if a.status != http.StatusPreconditionFailed {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if done != 1 {
		t.Errorf("%d patches of one revision were taken", done)
	}
}
