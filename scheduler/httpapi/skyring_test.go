package httpapi_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

const (
	callback = `"callback":{"transport":"http","method":"post","uri":"http://127.0.0.1:9000/"}`
	good     = `{"timeout":600000,"data":"x",` + callback + `}`

	noTimeout  = "timeout is required and must be a positive number"
	longTime   = "timeout must be less than or equal to 2147483647 milliseconds"
	badData    = "data is required and must be a string or object. Got "
	noCallback = "callback is required and must be an object"
)

// TestSkyringTimeout has bodies that are no JSON, and timeouts that are none: what is wrong later in the body is not told.
func TestSkyringTimeout(t *testing.T) {
	t.Parallel()
	build(t, httpapi.Config{}).refused(t, map[string]string{
		``:                                noTimeout,
		` `:                               "the body is not JSON: unexpected end of JSON input at byte 1",
		`{}`:                              noTimeout,
		`[]`:                              noTimeout,
		`5`:                               noTimeout,
		`"timeout"`:                       noTimeout,
		`true`:                            noTimeout,
		`null`:                            noTimeout,
		`{"timeout":null}`:                noTimeout,
		`{"timeout":0}`:                   noTimeout,
		`{"timeout":-1,"data":1}`:         noTimeout,
		`{"timeout":0.5}`:                 noTimeout,
		`{"timeout":"0.9"}`:               noTimeout,
		`{"timeout":false}`:               noTimeout,
		`{"timeout":"soon"}`:              noTimeout,
		`{"timeout":""}`:                  noTimeout,
		`{"timeout":[]}`:                  noTimeout,
		`{"timeout":[1,2]}`:               noTimeout,
		`{"timeout":{}}`:                  noTimeout,
		`{"Timeout":1000}`:                noTimeout,
		`{"timeout":1000,"timeout":0}`:    noTimeout,
		`{"timeout":2147483648,"data":1}`: longTime,
		`{"timeout":2147483647.5}`:        longTime,
		`{"timeout":"2147483648"}`:        longTime,
		`{"timeout":1e400}`:               longTime,
		`{"timeout":"Infinity"}`:          longTime,
		`{"timeout":1000`:                 "the body is not JSON: unexpected end of JSON input at byte 15",
		`{"timeout":1000} x`:              "the body is not JSON: invalid character 'x' after top-level value at byte 18",
		"{\"timeout\":\"\u00e4\n":         `the body is not JSON: invalid character '\n' in string literal at byte 15`,
		strings.Repeat("[", 20000):        "the body is not JSON: invalid character '[' exceeded max depth at byte 10001",
	})
}

// TestSkyringRefuses has Skyring's further checks, in its order.
func TestSkyringRefuses(t *testing.T) {
	t.Parallel()
	build(t, httpapi.Config{}).refused(t, map[string]string{
		`{"timeout":1000,"data":[]}`:                                                               badData + "Array",
		`{"timeout":1000,"data":[1],"callback":1}`:                                                 badData + "Array",
		`{"timeout":1000,"data":1}`:                                                                badData + "Number",
		`{"timeout":1000,"data":-0.5}`:                                                             badData + "Number",
		`{"timeout":1000,"data":true}`:                                                             badData + "Boolean",
		`{"timeout":1000,"data":false}`:                                                            badData + "Boolean",
		`{"timeout":1000}`:                                                                         noCallback,
		`{"timeout":1000,"data":null}`:                                                             noCallback,
		`{"timeout":1000,"data":"x","callback":null}`:                                              noCallback,
		`{"timeout":1000,"data":"x","callback":[]}`:                                                noCallback,
		`{"timeout":1000,"data":"x","callback":"http://127.0.0.1/"}`:                               noCallback,
		`{"timeout":1000,"data":{},"callback":{}}`:                                                 "callback.transport is required and must be a string. Got Undefined",
		`{"timeout":1000,"callback":{"transport":null}}`:                                           "callback.transport is required and must be a string. Got Null",
		`{"timeout":1000,"callback":{"transport":1}}`:                                              "callback.transport is required and must be a string. Got Number",
		`{"timeout":1000,"callback":{"transport":"http"}}`:                                         "callback.uri is required and must be a string. Got Undefined",
		`{"timeout":1000,"callback":{"transport":"http","uri":["u"]}}`:                             "callback.uri is required and must be a string. Got Array",
		`{"timeout":1000,"callback":{"transport":"http","uri":"http://127.0.0.1/"}}`:               "callback.method is required and must be a string. Got Undefined",
		`{"timeout":1000,"callback":{"transport":"http","uri":"http://127.0.0.1/","method":{}}}`:   "callback.method is required and must be a string. Got Object",
		`{"timeout":1000,"callback":{"transport":"http","uri":"http://127.0.0.1/","method":true}}`: "callback.method is required and must be a string. Got Boolean",
		`{"timeout":1000,"callback":{"transport":"","uri":"http://127.0.0.1/","method":"post"}}`:   "callback.transport must not be empty",
		`{"timeout":1000,"callback":{"transport":"http","uri":"","method":"post"}}`:                "callback.uri must not be empty",
	})
}

// refused sends bodies that must be refused with a reason, whether a timer is created or changed.
func (h *house) refused(t *testing.T, reasons map[string]string) {
	t.Helper()
	for body, want := range reasons {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			url := h.url + "/timer"
			if method == http.MethodPut {
				url += "/there-is-none" // the body is looked at first
			}
			a := send(t, method, url, body)
			if a.status != http.StatusBadRequest || a.body != "" || a.reason() != want {
				t.Errorf("%s %.80s: %d %q %q, want 400 %q", method, body, a.status, a.reason(), a.body, want)
			}
			if !strings.HasPrefix(a.header.Get("Location"), "/timer/") {
				t.Errorf("%s %.80s: Location %q", method, body, a.header.Get("Location"))
			}
		}
	}
	for tm, err := range h.timers.List(t.Context(), scheduler.Filter{}) {
		t.Errorf("%v %v was created", tm, err)
	}
}

// TestSkyringAccepts has the leniences of Skyring, which compared timeouts by what JavaScript makes a number of.
func TestSkyringAccepts(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for timeout, want := range map[string]time.Duration{
		`600000`:            10 * time.Minute,
		`"600000"`:          10 * time.Minute,
		`" 600000\n"`:       10 * time.Minute,
		`[600000]`:          10 * time.Minute,
		`[["600000"]]`:      10 * time.Minute,
		`"6e5"`:             10 * time.Minute,
		`"0x927c0"`:         10 * time.Minute,
		`600000.5`:          10*time.Minute + 500*time.Microsecond,
		`"\u0036\u0030000"`: time.Minute,
		`2147483647`:        (1<<31 - 1) * time.Millisecond,
	} {
		before := time.Now()
		a := send(t, http.MethodPost, h.url+"/timer", `{"timeout":`+timeout+`,"created":1,"id":"mine",`+callback+`}`).want(t, http.StatusCreated)
		id := strings.TrimPrefix(a.header.Get("Location"), "/timer/")
		tm, err := h.timers.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if left := tm.Due.Sub(before); left < want-time.Second || left > want+patience {
			t.Errorf("timeout %s: due in %s, want %s", timeout, left, want)
		}
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
			t.Errorf("id %q", id)
		}
	}
	// These are due at once: nothing is left to look at but the answer.
	for _, timeout := range []string{`1`, `true`, `"1"`, `1.5`, `[1]`, `"0b1"`} {
		send(t, http.MethodPost, h.url+"/timer", `{"timeout":`+timeout+`,`+callback+`}`).want(t, http.StatusCreated)
	}
}

func TestSkyringMaxTimeout(t *testing.T) {
	t.Parallel()
	const year = `{"timeout":31536000000,` + callback + `}`
	h := build(t, httpapi.Config{SkyringMaxTimeout: -1})
	send(t, http.MethodPost, h.url+"/timer", year).want(t, http.StatusCreated)
	for _, timeout := range []string{`1e13`, `9000000000000`, `1e300`, `"Infinity"`} {
		a := send(t, http.MethodPost, h.url+"/timer", `{"timeout":`+timeout+`,`+callback+`}`)
		if a.status != http.StatusBadRequest || a.reason() == "" {
			t.Errorf("timeout %s: %d %q", timeout, a.status, a.reason())
		}
	}
	h = build(t, httpapi.Config{SkyringMaxTimeout: time.Hour})
	a := send(t, http.MethodPost, h.url+"/timer", year)
	if a.status != http.StatusBadRequest || a.reason() != "timeout must be less than or equal to 3600000 milliseconds" {
		t.Errorf("%d %q", a.status, a.reason())
	}
}

// TestSkyringLife has the statuses and headers of a timer's life.
func TestSkyringLife(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	check := func(a answer, status int, location string) {
		t.Helper()
		if a.status != status || a.body != "" || a.reason() != "" || a.header.Get("Location") != location || a.header.Get("Content-Type") != "" {
			t.Errorf("%d %q %v, want %d at %q", a.status, a.body, a.header, status, location)
		}
	}
	check(send(t, http.MethodGet, h.url+"/ping", ""), http.StatusOK, "")
	check(send(t, http.MethodPost, h.url+"/timer", good, "x-timer-id", "mine"), http.StatusCreated, "/timer/mine")
	check(send(t, http.MethodPut, h.url+"/timer/mine", good), http.StatusOK, "/timer/mine")
	check(send(t, http.MethodPut, h.url+"/TIMER/mine/?x=y", good, "Content-Type", "text/plain"), http.StatusOK, "/timer/mine")
	check(send(t, http.MethodPut, h.url+"/timer/other", good), http.StatusNotFound, "/timer/other")
	check(send(t, http.MethodPut, h.url+"/timer/not%20a%20token", good), http.StatusNotFound, "/timer/not%20a%20token")
	check(send(t, http.MethodDelete, h.url+"/timer/other", ""), http.StatusNotFound, "/timer/other")
	check(send(t, http.MethodDelete, h.url+"/timer/%3E", ""), http.StatusNotFound, "/timer/%3E")
	check(send(t, http.MethodDelete, h.url+"/timer/mine", ""), http.StatusAccepted, "/timer/mine")
	check(send(t, http.MethodDelete, h.url+"/timer/mine", ""), http.StatusNotFound, "/timer/mine")
	check(send(t, http.MethodPut, h.url+"/timer/mine", good), http.StatusNotFound, "/timer/mine")
	check(send(t, http.MethodPost, h.url+"/Timer/", good, "X-Timer-Id", "mine"), http.StatusCreated, "/timer/mine")

	a := send(t, http.MethodPost, h.url+"/timer", good, "x-timer-id", "mine")
	if a.status != http.StatusConflict || a.reason() == "" || a.header.Get("Location") != "/timer/mine" || a.body != "" {
		t.Errorf("a second timer of an id: %d %q %v", a.status, a.reason(), a.header)
	}
	for _, id := range []string{"a.b", "a b", ">", "*", strings.Repeat("x", 65), "\u00e4"} {
		a := send(t, http.MethodPost, h.url+"/timer", good, "x-timer-id", id)
		if a.status != http.StatusBadRequest || !strings.HasPrefix(a.reason(), "x-timer-id ") {
			t.Errorf("id %q: %d %q", id, a.status, a.reason())
		}
	}
}

// TestSkyringUnknown has what Skyring knew no route for.
func TestSkyringUnknown(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for _, what := range []string{
		"GET /", "GET /timer", "GET /timer/mine", "PATCH /timer/mine", "OPTIONS /timer", "POST /ping", "POST /timer/mine", "PUT /timer", "DELETE /timer/",
		"PUT /timer/a/b", "GET /pings", "POST /timers", "GET /v1",
	} {
		method, path, _ := strings.Cut(what, " ")
		a := send(t, method, h.url+path, "")
		if a.status != http.StatusNotFound || a.reason() != "Not Found" || a.header.Get("Content-Type") != "application/json" || a.body != `{"message":"Not Found"}` {
			t.Errorf("%s: %d %q %v", what, a.status, a.body, a.header)
		}
	}
	if a := send(t, http.MethodHead, h.url+"/ping", ""); a.status != http.StatusNotFound {
		t.Errorf("HEAD /ping: %d", a.status)
	}
	send(t, http.MethodGet, h.url+"/PING/", "").want(t, http.StatusOK)
}

func TestSkyringTooLarge(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for name, body := range map[string]string{
		"body": `{"timeout":600000,` + callback + `,"rest":"` + strings.Repeat("x", 1<<20) + `"}`,
		"data": `{"timeout":600000,` + callback + `,"data":"` + strings.Repeat("x", 600<<10) + `"}`,
	} {
		a := send(t, http.MethodPost, h.url+"/timer", body)
		if a.status != http.StatusRequestEntityTooLarge || a.reason() != "request entity too large" || a.header.Get("Location") == "" {
			t.Errorf("%s: %d %q", name, a.status, a.reason())
		}
	}
	// As large as may be.
	send(t, http.MethodPost, h.url+"/timer", `{"timeout":600000,`+callback+`,"data":"`+strings.Repeat("x", scheduler.MaxPayload)+`"}`).want(t, http.StatusCreated)
}

// TestSkyringTargets has targets that Skyring found out about when the timer was due, or broke down at.
func TestSkyringTargets(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	for callback, want := range map[string]string{
		`"transport":"nobody","uri":"nobody://x","method":"post"`:                 "not known",
		`"transport":"HTTP","uri":"http://127.0.0.1:9000/","method":"post"`:       "not known",
		`"transport":"http","uri":"http://10.1.2.3/","method":"post"`:             "--allow-net",
		`"transport":"http","uri":"http://[fd00::1]/","method":"post"`:            "--allow-net",
		`"transport":"tcp","uri":"tcp://169.254.1.1:2000","method":"unknown"`:     "credentials",
		`"transport":"http","uri":"http://127.0.0.1:22/","method":"post"`:         "--allow-port",
		`"transport":"http","uri":"http://127.0.0.1:9000/","method":"fake"`:       "FAKE",
		`"transport":"http","uri":"not a place at all","method":"post"`:           "",
		`"transport":"http","uri":"ftp://127.0.0.1:9000/","method":"post"`:        "",
		`"transport":"nats","uri":"elsewhere.subject","method":"pub"`:             "--publish-prefix",
		`"transport":"http","uri":"http://127.0.0.1:9000/\u0000","method":"post"`: "",
	} {
		body := `{"timeout":600000,"callback":{` + callback + `}}`
		for _, a := range []answer{send(t, http.MethodPost, h.url+"/timer", body), send(t, http.MethodPut, h.url+"/timer/none", body)} {
			if a.status != http.StatusBadRequest || a.body != "" || a.reason() == "" || !strings.Contains(a.reason(), want) {
				t.Errorf("%s: %d %q, want 400 with %q", callback, a.status, a.reason(), want)
			}
		}
	}
	for _, callback := range []string{
		`"transport":"https","uri":"https://127.0.0.1:9000/","method":"GET"`, `"transport":"http","uri":"https://127.0.0.1:9000/","method":"options"`,
		`"transport":"tcp","uri":"tcp://127.0.0.1:9000","method":"unknown"`, `"transport":"nats","uri":"default.dev.pub.x","method":""`,
	} {
		send(t, http.MethodPost, h.url+"/timer", `{"timeout":600000,"callback":{`+callback+`}}`).want(t, http.StatusCreated)
	}
}
