package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

const target = `"target":{"uri":"http://127.0.0.1:9000/"}`

func TestCreate(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	body := `{"id":"mine","at":"2131-05-01T12:00:00.5+02:00",` +
		`"target":{"transport":"http","uri":"http://127.0.0.1:9000/","method":"PUT","timeout":"5s"},"payload":{"a": "<b>"},` +
		`"headers":{"X-Mine":"1"},"labels":{"team":"a"},"retry":{"max_attempts":3,"first":"2s","last":"10s","max_age":"1h"},"paused":true}`
	a := send(t, http.MethodPost, h.url+"/v1/timers", body, "Content-Type", "application/json; charset=utf-8").want(t, http.StatusCreated)
	var got map[string]any
	a.decode(t, &got)
	rev := got["revision"].(float64)
	if _, err := time.Parse(time.RFC3339Nano, got["created"].(string)); err != nil || rev == 0 {
		t.Errorf("created %v, revision %v", got["created"], rev)
	}
	delete(got, "created")
	delete(got, "revision")
	want := `{"at":"2131-05-01T10:00:00.5Z","content_type":"application/json","due":"2131-05-01T10:00:00.5Z","headers":{"X-Mine":"1"},"id":"mine",` +
		`"labels":{"team":"a"},"occurrence":1,"paused":true,"payload":{"a":"<b>"},` +
		`"retry":{"first":"2s","last":"10s","max_age":"1h0m0s","max_attempts":3},"state":"paused",` +
		`"target":{"method":"PUT","timeout":"5s","transport":"http","uri":"http://127.0.0.1:9000/"}}`
	if text := encode(t, got); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if etag := a.header.Get("ETag"); etag != fmt.Sprintf(`"%.0f"`, rev) || a.header.Get("Location") != "/v1/timers/mine" {
		t.Errorf("ETag %q, Location %q", etag, a.header.Get("Location"))
	}
	if again := send(t, http.MethodGet, h.url+"/v1/timers/mine", "").want(t, http.StatusOK); again.body != a.body || again.header.Get("ETag") != a.header.Get("ETag") {
		t.Errorf("GET %s, created was %s", again.body, a.body)
	}
	p := send(t, http.MethodPost, h.url+"/v1/timers", body).want(t, http.StatusConflict).problem(t)
	if p.Code != "already_exists" || p.Details["id"] != "mine" || p.fields() != "id" {
		t.Errorf("a second time: %+v", p)
	}
	// curl -d calls it a form.
	send(t, http.MethodPost, h.url+"/v1/timers", `{"after":"1h",`+target+`}`, "Content-Type", "application/x-www-form-urlencoded").want(t, http.StatusCreated)
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// TestPayloads has the forms of a payload, and what is stored and shown of each.
func TestPayloads(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for _, tt := range []struct{ in, payload, contentType, out string }{
		{`"payload":{"a": [1.0, "\u00e4"]}`, `{"a":[1.0,"\u00e4"]}`, "application/json", `"payload":{"a":[1.0,"\u00e4"]}`},
		{`"payload":"text"`, `"text"`, "application/json", `"payload":"text"`},
		{`"payload":0`, `0`, "application/json", `"payload":0`},
		{`"payload":[],"content_type":"application/cloudevents+json"`, `[]`, "application/cloudevents+json", `"payload":[]`},
		{`"content_type":"text/plain","payload":1`, `1`, "text/plain", `"payload_text":"1"`},
		{`"payload_text":"<a>\n"`, "<a>\n", "text/plain; charset=utf-8", `"payload_text":"<a>\n"`},
		{`"payload_text":"{\"a\":1}","content_type":"application/json"`, `{"a":1}`, "application/json", `"payload":{"a":1}`},
		{`"payload_text":"a=b","content_type":"application/x-www-form-urlencoded"`, `a=b`, "application/x-www-form-urlencoded", `"payload_text":"a=b"`},
		{`"payload_text":"null","content_type":"application/json"`, `null`, "application/json", `"payload_base64":"bnVsbA=="`},
		{`"payload_base64":"AP8="`, "\x00\xff", "application/octet-stream", `"payload_base64":"AP8="`},
		{`"payload_base64":"/w==","content_type":"text/plain"`, "\xff", "text/plain", `"payload_base64":"/w=="`},
		{`"payload":null`, "", "", ""},
		{`"payload_text":""`, "", "text/plain; charset=utf-8", ""},
	} {
		a := send(t, http.MethodPost, h.url+"/v1/timers", `{"after":"1h",`+target+`,`+tt.in+`}`).want(t, http.StatusCreated)
		tm, err := h.timers.Get(t.Context(), a.timer(t).ID)
		if err != nil {
			t.Fatal(err)
		}
		if string(tm.Payload) != tt.payload || tm.ContentType != tt.contentType {
			t.Errorf("%s is stored as %q %q, want %q %q", tt.in, tm.ContentType, tm.Payload, tt.contentType, tt.payload)
		}
		if !strings.Contains(a.body, tt.out) || strings.Count(a.body, "payload") > 1 {
			t.Errorf("%s is shown as %s, want %s", tt.in, a.body, tt.out)
		}
	}
}

// TestCreateRefuses has what is wrong with a timer, and the fields that are named for it.
func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for _, tt := range []struct {
		body   string
		status int
		fields string
	}{
		{``, 400, ""},
		{`{`, 400, ""},
		{`{} {}`, 400, ""},
		{`{"after":"1h",` + target + `}x`, 400, ""},
		{strings.Repeat(`{"payload":`, 20000), 400, ""},
		{`null`, 422, ""},
		{`[]`, 422, ""},
		{`{"after":"1h","afte":1,` + target + `}`, 400, "afte"},
		{`{"after":"1h","After":"1h",` + target + `}`, 400, "After"},
		{`{"after":"1h","state":"paused","created":"2031-01-01T00:00:00Z",` + target + `}`, 400, "state created"},
		{`{"after":"1h","target":{"uri":"http://127.0.0.1:9000/","url":"x"}}`, 400, "target.url"},
		{`{"after":"1h",` + target + `,"retry":{"attempts":1}}`, 400, "retry.attempts"},
		{`{` + target + `}`, 422, "after"},
		{`{"after":1000,` + target + `}`, 422, "after"},
		{`{"after":"1 hour",` + target + `}`, 422, "after"},
		{`{"after":"-1s",` + target + `}`, 422, "after"},
		{`{"after":"1h","at":"2131-05-01T12:00:00Z",` + target + `}`, 422, "after"},
		{`{"at":"tomorrow",` + target + `}`, 422, "at"},
		{`{"at":1893456000,` + target + `}`, 422, "at"},
		{`{"at":"1999-05-01T12:00:00Z",` + target + `}`, 422, "at"},
		{`{"after":"1h","id":"a.b",` + target + `}`, 422, "id"},
		{`{"after":"1h","id":"a","key":"b",` + target + `}`, 422, "id"},
		{`{"after":"1h","id":5,"key":[],"target":"x","headers":{"a":1},"labels":[],"paused":"no","retry":1}`, 422, "id key target headers.a labels paused retry"},
		{`{"after":"1h",` + target + `,"retry":{"max_attempts":1.5,"first":5}}`, 422, "retry.max_attempts retry.first"},
		{`{"after":"1h",` + target + `,"retry":{"max_attempts":51}}`, 422, "retry.max_attempts"},
		{`{"after":"1h",` + target + `,"retry":{"max_attempts":99999999999}}`, 422, "retry.max_attempts"},
		{`{"after":"1h",` + target + `,"payload":1,"payload_text":"1"}`, 422, "payload"},
		{`{"after":"1h",` + target + `,"payload_base64":"?"}`, 422, "payload_base64"},
		{`{"after":"1h",` + target + `,"payload":1,"content_type":"no type"}`, 422, "content_type"},
		{`{"after":"1h",` + target + `,"content_type":1}`, 422, "content_type"},
		{`{"after":"1h",` + target + `,"labels":{"a b":"c"}}`, 422, "labels"},
		{`{"repeat":{"cron":"x","max":"1"},` + target + `}`, 422, "repeat.max"},
		{`{"after":"1h",` + target + `,"payload":"` + strings.Repeat("x", 600<<10) + `"}`, 413, "payload"},
		{`{"after":"1h",` + target + `,"payload":"` + strings.Repeat("x", 1<<20) + `"}`, 413, ""},
	} {
		a := send(t, http.MethodPost, h.url+"/v1/timers", tt.body)
		if a.status != tt.status {
			t.Errorf("%.100s: %d %s, want %d", tt.body, a.status, a.body, tt.status)
			continue
		}
		if p := a.problem(t); p.fields() != tt.fields && tt.fields != "" {
			t.Errorf("%.100s: fields %s, want %s", tt.body, p.fields(), tt.fields)
		}
	}
	for _, contentType := range []string{"text/xml", "application/msgpack", "multipart/form-data; boundary=x", ";"} {
		send(t, http.MethodPost, h.url+"/v1/timers", `{"after":"1h",`+target+`}`, "Content-Type", contentType).
			want(t, http.StatusUnsupportedMediaType).problem(t)
	}
	for tm, err := range h.timers.List(t.Context(), scheduler.Filter{}) {
		t.Errorf("%v %v was created", tm, err)
	}
}

// TestChanges has what can be done to a timer, and what comes of it when there is none.
func TestChanges(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	mine := h.url + "/v1/timers/mine"
	made := send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"mine","after":"1h",`+target+`}`).want(t, http.StatusCreated)

	paused := send(t, http.MethodPost, mine+"/pause", "").want(t, http.StatusOK)
	if tm := paused.timer(t); tm.State != "paused" || paused.header.Get("ETag") == made.header.Get("ETag") {
		t.Errorf("paused: %s", paused.body)
	}
	if tm := send(t, http.MethodPost, mine+"/resume", "{}").want(t, http.StatusOK).timer(t); tm.State != "scheduled" {
		t.Errorf("resumed: %+v", tm)
	}
	p := send(t, http.MethodDelete, mine, "", "If-Match", made.header.Get("ETag")).want(t, http.StatusPreconditionFailed).problem(t)
	if p.Code != "aborted" {
		t.Errorf("cancelled at an old revision: %+v", p)
	}
	for _, bad := range []string{"1", `"x"`, `W/"1"`, `"1","2"`, `"0"`} {
		send(t, http.MethodDelete, mine, "", "If-Match", bad).want(t, http.StatusPreconditionFailed).problem(t)
	}
	for _, what := range []string{"/pause", "/resume", "/fire"} {
		send(t, http.MethodPost, mine+what, "", "If-Match", made.header.Get("ETag")).want(t, http.StatusPreconditionFailed).problem(t)
		send(t, http.MethodPost, mine+what, "", "If-Match", "1").want(t, http.StatusPreconditionFailed).problem(t)
	}
	now := send(t, http.MethodGet, mine, "").want(t, http.StatusOK).header.Get("ETag")
	now = send(t, http.MethodPost, mine+"/pause", "", "If-Match", now).want(t, http.StatusOK).header.Get("ETag")
	if a := send(t, http.MethodDelete, mine, "", "If-Match", now).want(t, http.StatusNoContent); a.body != "" {
		t.Errorf("body %q", a.body)
	}
	send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"mine","after":"1h",`+target+`}`).want(t, http.StatusCreated)
	send(t, http.MethodDelete, mine, "", "If-Match", "*").want(t, http.StatusNoContent)

	send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"mine","after":"1h",`+target+`}`).want(t, http.StatusCreated)
	var fired struct{ Delivery string }
	send(t, http.MethodPost, mine+"/fire", "").want(t, http.StatusAccepted).decode(t, &fired)
	if !strings.HasPrefix(fired.Delivery, "mine-") {
		t.Errorf("delivery %q", fired.Delivery)
	}
	for _, what := range []string{"DELETE ", "POST /fire", "POST /pause", "POST /resume", `PATCH {"after":"1h"}`} { // nobody delivers
		method, rest, _ := strings.Cut(what, " ")
		path, body := rest, ""
		if method == http.MethodPatch {
			path, body = "", rest
		}
		if p := send(t, method, mine+path, body).want(t, http.StatusConflict).problem(t); p.Details["reason"] != "already_due" {
			t.Errorf("%s of a timer that fires: %+v", what, p)
		}
	}
	if tm := send(t, http.MethodGet, mine, "").want(t, http.StatusOK).timer(t); tm.State != "firing" {
		t.Errorf("%+v", tm)
	}
	for _, id := range []string{"other", "a%2Fb", "%3E", strings.Repeat("x", 65), "next"} {
		for _, what := range []string{"GET ", "DELETE ", "POST /fire", "POST /pause", "POST /resume"} {
			method, path, _ := strings.Cut(what, " ")
			if p := send(t, method, h.url+"/v1/timers/"+id+path, "").want(t, http.StatusNotFound).problem(t); p.Code != "not_found" {
				t.Errorf("%s %s: %+v", what, id, p)
			}
		}
		send(t, http.MethodPatch, h.url+"/v1/timers/"+id, `{"after":"1h"}`).want(t, http.StatusNotFound).problem(t)
	}
}

// TestSkyringMissing has the changes of a timer that is due: Skyring had forgotten it by then.
func TestSkyringMissing(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	send(t, http.MethodPost, h.url+"/timer", good, "x-timer-id", "mine").want(t, http.StatusCreated)
	send(t, http.MethodPost, h.url+"/v1/timers/mine/fire", "").want(t, http.StatusAccepted) // nobody delivers
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		if a := send(t, method, h.url+"/timer/mine", good); a.status != http.StatusNotFound || a.reason() != "" || a.body != "" {
			t.Errorf("%s: %d %q %q", method, a.status, a.reason(), a.body)
		}
	}
}

// TestIDsThatArePaths has timers whose ids are words of the API.
func TestIDsThatArePaths(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for _, id := range []string{"next", "dead", "fire", "events", "openapi"} {
		send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"`+id+`","after":"1h",`+target+`}`).want(t, http.StatusCreated)
		if tm := send(t, http.MethodGet, h.url+"/v1/timers/"+id, "").want(t, http.StatusOK).timer(t); tm.ID != id {
			t.Errorf("GET %s is %+v", id, tm)
		}
		send(t, http.MethodPatch, h.url+"/v1/timers/"+id, `{"after":"2h"}`).want(t, http.StatusOK)
		send(t, http.MethodDelete, h.url+"/v1/timers/"+id, "").want(t, http.StatusNoContent)
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for path, allow := range map[string]string{
		"/v1/timers":                "POST, GET",
		"/v1/timers/mine":           "GET, PATCH, DELETE",
		"/v1/timers/next":           "GET, PATCH, DELETE",
		"/v1/timers/mine/fire":      "POST",
		"/v1/dead/timers":           "GET",
		"/v1/dead/timers/x":         "GET, DELETE",
		"/v1/dead/timers/x/redrive": "POST",
		"/v1/openapi.json":          "GET",
	} {
		a := send(t, http.MethodPut, h.url+path, "").want(t, http.StatusMethodNotAllowed)
		a.problem(t)
		if a.header.Get("Allow") != allow {
			t.Errorf("%s: Allow %q, want %q", path, a.header.Get("Allow"), allow)
		}
	}
	for _, path := range []string{"/v1/", "/v1/timer", "/v1/timers/", "/v1/timers/a/b", "/v1/dead", "/v1/openapi.yaml"} {
		send(t, http.MethodGet, h.url+path, "").want(t, http.StatusNotFound).problem(t)
	}
	if a := send(t, http.MethodHead, h.url+"/v1/openapi.json", "").want(t, http.StatusOK); a.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %v", a.header)
	}
}

type page struct {
	Timers []timer `json:"timers"`
	Next   string  `json:"next"`
}

func (p page) ids() string {
	var ids []string
	for _, tm := range p.Timers {
		ids = append(ids, tm.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func TestList(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for i, spec := range []string{
		`"labels":{"team":"a","of":"x:y"}`, `"labels":{"team":"a"},"paused":true`, `"labels":{"team":"b"}`, `"payload":"x"`, `"paused":true`,
	} {
		body := fmt.Sprintf(`{"id":"t%d","at":"2131-05-0%dT00:00:00Z",%s,%s}`, i, i+1, target, spec)
		send(t, http.MethodPost, h.url+"/v1/timers", body).want(t, http.StatusCreated)
	}
	send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"u","after":"1h",`+target+`}`).want(t, http.StatusCreated)
	for query, want := range map[string]string{
		"":                                "t0 t1 t2 t3 t4 u",
		"prefix=t":                        "t0 t1 t2 t3 t4",
		"prefix=t&state=paused":           "t1 t4",
		"state=paused&state=scheduled":    "t0 t1 t2 t3 t4 u",
		"state=firing":                    "",
		"label=team:a":                    "t0 t1",
		"label=team:a&label=of:x:y":       "t0",
		"label=team:c":                    "",
		"due_before=2100-01-01T00:00:00Z": "u",
		"due_from=2131-05-02T00:00:00Z":   "t1 t2 t3 t4",
		"due_from=2131-05-02T00:00:00%2B00:00&due_before=2131-05-04T00:00:00Z": "t1 t2",
		"prefix=nothing": "",
	} {
		var p page
		send(t, http.MethodGet, h.url+"/v1/timers?"+query, "").want(t, http.StatusOK).decode(t, &p)
		if p.ids() != want || p.Next != "" || p.Timers == nil {
			t.Errorf("%q: %s (next %q), want %s", query, p.ids(), p.Next, want)
		}
	}
	var all page
	for cursor, pages := "", 1; ; pages++ {
		var p page
		send(t, http.MethodGet, h.url+"/v1/timers?limit=2&cursor="+cursor, "").want(t, http.StatusOK).decode(t, &p)
		all.Timers = append(all.Timers, p.Timers...)
		if p.Next == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		if cursor = p.Next; len(p.Timers) != 2 {
			t.Errorf("a page of %d", len(p.Timers))
		}
	}
	if all.ids() != "t0 t1 t2 t3 t4 u" {
		t.Errorf("by pages: %s", all.ids())
	}
	for query, status := range map[string]int{
		"limit=0": 422, "limit=1001": 422, "limit=x": 422, "limit=1&limit=2": 422, "state=dead": 422, "label=a": 422, "due_from=now": 422, "cursor=x": 422,
		"sort=due": 400, "%zz": 422,
	} {
		send(t, http.MethodGet, h.url+"/v1/timers?"+query, "").want(t, status).problem(t)
	}
}

// TestListLarge has pages that end before their limit.
func TestListLarge(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	const n = 20
	for i := range n {
		spec := scheduler.Spec{ID: "t" + strconv.Itoa(i), After: time.Hour, Payload: make([]byte, scheduler.MaxPayload), Target: scheduler.Target{URI: "http://127.0.0.1:9000/"}}
		if _, err := h.timers.Create(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	got, pages := 0, 0
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		var p page
		a := send(t, http.MethodGet, h.url+"/v1/timers?limit=1000&cursor="+cursor, "").want(t, http.StatusOK)
		a.decode(t, &p)
		if len(a.body) > 8<<20 {
			t.Errorf("a page of %d bytes", len(a.body))
		}
		got, cursor = got+len(p.Timers), p.Next
	}
	if got != n || pages < 2 {
		t.Errorf("%d timers on %d pages", got, pages)
	}
}
