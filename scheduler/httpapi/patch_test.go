package httpapi_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

func TestPatch(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	mine := h.url + "/v1/timers/mine"
	patch := func(body string) answer {
		return send(t, http.MethodPatch, mine, body, "Content-Type", "application/merge-patch+json")
	}
	at := time.Date(2131, 5, 1, 12, 0, 0, 5, time.UTC)
	// A payload as no JSON encoder writes it.
	spec := scheduler.Spec{
		ID: "mine", At: at, Payload: []byte(`{"b":1, "a":2.0}`), ContentType: "application/json; charset=utf-8",
		Target: scheduler.Target{URI: "http://127.0.0.1:9000/", Method: "PUT", Timeout: time.Second},
		Header: map[string]string{"X-A": "1", "X-B": "2"}, Labels: map[string]string{"team": "a"},
		Retry: scheduler.Retry{MaxAttempts: 3, MaxAge: time.Hour},
	}
	if _, err := h.timers.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	get := func() scheduler.Timer {
		t.Helper()
		tm, err := h.timers.Get(t.Context(), "mine")
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}

	a := patch(`{"headers":{"X-A":null,"X-C":"3"},"retry":{"max_age":null},"target":{"timeout":"2s"},"labels":null}`).want(t, http.StatusOK)
	tm := get()
	if text := encode(t, tm.Header); text != `{"X-B":"2","X-C":"3"}` {
		t.Errorf("headers %s", text)
	}
	if tm.Retry.MaxAttempts != 3 || tm.Retry.MaxAge != 0 || tm.Target.Timeout != 2*time.Second || tm.Target.Method != "PUT" || len(tm.Labels) != 0 {
		t.Errorf("%+v", tm.Spec)
	}
	if !tm.At.Equal(at) || string(tm.Payload) != string(spec.Payload) || tm.ContentType != spec.ContentType {
		t.Errorf("what was not named changed: %s %q %q", tm.At, tm.Payload, tm.ContentType)
	}
	if a.timer(t).Revision != tm.Revision {
		t.Errorf("answered %s, is %d", a.body, tm.Revision)
	}

	patch(`{"payload":{"b":null,"c":[1]}}`).want(t, http.StatusOK)
	if tm = get(); string(tm.Payload) != `{"a":2.0,"c":[1]}` || tm.ContentType != spec.ContentType {
		t.Errorf("a payload merged: %q %q", tm.Payload, tm.ContentType)
	}
	patch(`{"payload_text":"x"}`).want(t, http.StatusOK)
	if tm = get(); string(tm.Payload) != "x" || tm.ContentType != "text/plain; charset=utf-8" {
		t.Errorf("a payload of another form: %q %q", tm.Payload, tm.ContentType)
	}
	patch(`{"content_type":"text/csv"}`).want(t, http.StatusOK)
	if tm = get(); string(tm.Payload) != "x" || tm.ContentType != "text/csv" {
		t.Errorf("another content type: %q %q", tm.Payload, tm.ContentType)
	}
	patch(`{"payload_text":"y"}`).want(t, http.StatusOK)
	if tm = get(); string(tm.Payload) != "y" || tm.ContentType != "text/csv" {
		t.Errorf("a payload of the same form: %q %q", tm.Payload, tm.ContentType)
	}
	patch(`{"payload_text":null}`).want(t, http.StatusOK)
	if tm = get(); len(tm.Payload) != 0 || tm.ContentType != "" {
		t.Errorf("no payload: %q %q", tm.Payload, tm.ContentType)
	}
	before := time.Now()
	patch(`{"after":"1h","paused":true}`).want(t, http.StatusOK)
	if tm = get(); tm.Due.Sub(before) > 2*time.Hour || tm.State != scheduler.Paused {
		t.Errorf("due %s, %s", tm.Due, tm.State)
	}
	patch(`{"at":"2131-05-02T00:00:00Z","paused":false}`).want(t, http.StatusOK)
	if tm = get(); tm.Due.Year() != 2131 || tm.State != scheduler.Scheduled {
		t.Errorf("due %s, %s", tm.Due, tm.State)
	}

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
		if a := patch(body); a.status != status {
			t.Errorf("%s: %d %s, want %d", body, a.status, a.body, status)
		} else if status != http.StatusOK {
			a.problem(t)
		}
	}
	a = send(t, http.MethodPatch, mine, `{}`, "Content-Type", "application/json-patch+json").want(t, http.StatusUnsupportedMediaType)
	if a.header.Get("Accept-Patch") != "application/merge-patch+json" {
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
