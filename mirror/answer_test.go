package mirror_test

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// Whose answer a client gets, by policy and by what the backends answer. 0 is a backend that does not answer.
func TestAckPolicies(t *testing.T) {
	t.Parallel()
	for policy, cases := range map[mirror.Ack]map[[3]int]int{
		mirror.First:   {{201, 0, 0}: 201, {404, 404, 200}: 200, {404, 409, 409}: 409, {400, 404, 409}: 400, {0, 0, 0}: 202, {404, 404, 0}: 202},
		mirror.Primary: {{201, 200, 200}: 201, {404, 200, 200}: 404, {0, 200, 200}: 202},
		mirror.Quorum:  {{201, 0, 201}: 201, {201, 0, 0}: 202, {409, 200, 409}: 409, {400, 0, 400}: 400},
		mirror.All:     {{201, 200, 202}: 201, {201, 409, 200}: 409, {201, 200, 0}: 202},
		mirror.Queued:  {{200, 200, 200}: 202},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3)
			m := r.open(t, mirror.Config{Ack: policy, AnswerTimeout: 2 * time.Second, TryTimeout: 500 * time.Millisecond, Health: mirror.Health{Every: -1}})
			run(t, m)
			front := serve(t, m)
			for statuses, want := range cases {
				for i, b := range r.backends {
					b.setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
						if statuses[i] == 0 {
							w.WriteHeader(http.StatusServiceUnavailable)
							return true
						}
						w.Header().Set("X-From", name(i))
						w.WriteHeader(statuses[i])
						return true
					})
				}
				got := do(t, "PUT", front.URL+"/x", "")
				if got.status != want || got.header.Get("Skybus-Seq") == "" || got.header.Get("Skybus-Lane") == "" {
					t.Errorf("%v: %d %q %v, want %d", statuses, got.status, got.body, got.header, want)
				}
				if queued := got.header.Get("Location") == mirror.DefaultStatusPath+got.header.Get("Skybus-Seq"); queued != (got.header.Get("X-From") == "") {
					t.Errorf("%v: from %q, Location %q", statuses, got.header.Get("X-From"), got.header.Get("Location"))
				}
				for _, b := range r.backends {
					b.setRefuse(nil)
				}
				eventually(t, "write applied", func() bool {
					s := do(t, "GET", front.URL+mirror.DefaultStatusPath+got.header.Get("Skybus-Seq"), "")
					return s.status == http.StatusOK && statusOf(t, s).State == "applied"
				})
			}
		})
	}
}

// An answer reaches its client whole, but for what is another's business.
func TestAnswerToWrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{MaxAnswer: 1000, AckRules: []mirror.AckRule{{Method: "POST", Path: "/jobs/", Ack: mirror.Queued}}})
	run(t, m)
	front := serve(t, m)
	r.backends[0].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		h := w.Header()
		for _, f := range [][2]string{
			{"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}, {"Connection", "X-Hop"}, {"X-Hop", "1"}, {"Keep-Alive", "1"}, {"Skybus-Seq", "77"}, {"Location", "/x/1"}, {"Etag", `"1"`},
		} {
			h.Add(f[0], f[1])
		}
		switch req.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/large":
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, strings.Repeat("x", 1001))
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		}
		return true
	})
	for path, want := range map[string]response{"/x": {status: 201, body: strings.Repeat("x", 1000)}, "/none": {status: 204}, "/large": {status: 201}} {
		got := do(t, "PUT", front.URL+path, "")
		if got.status != want.status || got.body != want.body {
			t.Errorf("%s: %d, %d bytes", path, got.status, len(got.body))
		}
		h := got.header
		if cookies := h["Set-Cookie"]; len(cookies) != 2 || h.Get("X-Hop") != "" || h.Get("Keep-Alive") != "" || len(h["Skybus-Seq"]) != 1 || h.Get("Skybus-Seq") == "77" || h.Get("Location") != "/x/1" {
			t.Errorf("%s: header %v", path, h)
		}
		if omitted := h.Get("Skybus-Body-Omitted"); (omitted == "too-large") != (path == "/large") || (h.Get("Etag") == "") != (path == "/large") {
			t.Errorf("%s: omitted %q, header %v", path, omitted, h)
		}
	}
	if got := do(t, "POST", front.URL+"/jobs/1", ""); got.status != http.StatusAccepted {
		t.Errorf("by a rule: %d %q", got.status, got.body)
	}
}

// The status of a write follows its way to each backend.
func TestStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.First})
	run(t, m)
	front := serve(t, m)
	proceed := make(chan struct{})
	r.backends[1].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPut {
			return false
		}
		<-proceed
		w.WriteHeader(http.StatusCreated)
		return true
	})
	put := do(t, "PUT", front.URL+"/x", "")
	url := front.URL + mirror.DefaultStatusPath + put.header.Get("Skybus-Seq")
	eventually(t, "half way", func() bool {
		s := statusOf(t, do(t, "GET", url, ""))
		return s.State == "partly" && s.Backends["a"].State == "applied" && s.Backends["a"].Status == 200 && s.Backends["b"].State == "waiting" && s.Backends["b"].Status == 0
	})
	late, err := m.Set(t.Context(), mirror.Backend{Name: "late", URL: newBackend(t).URL, Active: true})
	if err != nil {
		t.Fatal(err)
	}
	close(proceed)
	eventually(t, "all the way", func() bool {
		s := statusOf(t, do(t, "GET", url, ""))
		return s.State == "applied" && s.Backends["b"].State == "applied" && s.Backends["b"].Status == 201 && s.Backends[late.Name].State == "not-sent"
	})
	for _, path := range []string{"0", "99999", "x", "", "01", "-1", "1x", "18446744073709551616"} {
		if got := do(t, "GET", front.URL+mirror.DefaultStatusPath+path, ""); got.status != http.StatusNotFound {
			t.Errorf("%q: %d %q", path, got.status, got.body)
		}
	}
	if got := do(t, "PUT", url, ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("PUT: %d, Allow %q", got.status, got.header.Get("Allow"))
	}
	other, err := mirror.Open(t.Context(), r.conn, mirror.Config{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if got := do(t, "GET", serve(t, other).URL+mirror.DefaultStatusPath+put.header.Get("Skybus-Seq"), ""); got.status != http.StatusNotFound {
		t.Errorf("by another mirror: %d %q", got.status, got.body)
	}
}

// Any process answers, whichever sends.
func TestAnswerAcrossProcesses(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	run(t, m)
	other, err := mirror.Open(t.Context(), connect(t, r.node), mirror.Config{Ack: mirror.All, Cookie: "m"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	got := do(t, "PUT", serve(t, other).URL+"/x", "one")
	if got.status != http.StatusOK || got.body != "PUT /x" {
		t.Fatalf("%d %q", got.status, got.body)
	}
	cookie, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	third, err := mirror.Open(t.Context(), connect(t, r.node), mirror.Config{Cookie: "m"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = third.Close() }()
	bodies := map[string]int{}
	front := serve(t, third)
	for range 4 {
		bodies[do(t, "GET", front.URL+"/x", "", "Cookie", cookie).body]++
	}
	if want := map[string]int{"one": 4}; !maps.Equal(bodies, want) {
		t.Errorf("%v, want %v", bodies, want)
	}
}

// An answer without a type stays without one: the mirror does not guess it from the body.
func TestAnswerWithoutType(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	page := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>")
		return true
	}
	r.backends[0].setRefuse(page)
	for _, method := range []string{"PUT", "GET", "HEAD"} {
		got := do(t, method, front.URL+"/x", "")
		if types, there := got.header["Content-Type"]; got.status != http.StatusOK || there {
			t.Errorf("%s: %d %q of type %q, want none", method, got.status, got.body, types)
		}
	}
}

// A write that no backend is to have, as there is none, or only one whose writes begin later, is not said to be applied.
func TestStatusWithoutBackends(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{Ack: mirror.Queued})
	front := serve(t, m)
	put := do(t, "PUT", front.URL+"/x", "")
	url := front.URL + mirror.DefaultStatusPath + put.header.Get("Skybus-Seq")
	check := func(when, state, ofBackend string) {
		t.Helper()
		if s := statusOf(t, do(t, "GET", url, "")); s.State != state || s.Backends["a"].State != ofBackend {
			t.Errorf("%s: %+v, want %s", when, s, state)
		}
	}
	set := func(active bool, opts ...mirror.SetOption) {
		t.Helper()
		if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: r.backends[0].URL, Active: active}, opts...); err != nil {
			t.Fatal(err)
		}
	}
	check("while it waits", "queued", "waiting")
	set(false)
	check("when no backend is active", "not-sent", "")
	set(true)
	check("with one whose writes begin later", "not-sent", "not-sent")
	set(true, mirror.From(1))
	check("with one that is to have it", "queued", "waiting")
	if err := m.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	check("without a backend", "not-sent", "")
}
