package mirror_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// from says which backend of the rig answers.
func (r *rig) from() {
	for i, b := range r.backends {
		b.setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodGet && req.URL.Path != "/" {
				_, _ = io.WriteString(w, name(i))
				return true
			}
			return false
		})
	}
}

// readers counts who answers n reads.
func readers(t *testing.T, url string, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		resp := do(t, "GET", url+"/who", "")
		if resp.status != http.StatusOK {
			t.Fatalf("%d %q", resp.status, resp.body)
		}
		got[resp.body]++
	}
	return got
}

func TestReadOrders(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.from()
	m := r.open(t, mirror.Config{})
	run(t, m)
	for i, priority := range []int{0, 2, 1} {
		if _, err := m.Set(t.Context(), mirror.Backend{Name: name(i), URL: r.backends[i].URL, Active: true, Priority: priority}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := readers(t, serve(t, m).URL, 9), map[string]int{"a": 3, "b": 3, "c": 3}; !maps.Equal(got, want) {
		t.Errorf("round robin: %v, want %v", got, want)
	}
	other, err := mirror.Open(t.Context(), r.conn, mirror.Config{Reads: mirror.ByPriority})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	front := serve(t, other)
	if got, want := readers(t, front.URL, 5), map[string]int{"c": 5}; !maps.Equal(got, want) {
		t.Errorf("by priority: %v, want %v", got, want)
	}
	for _, b := range []mirror.Backend{{Name: "c", URL: r.backends[2].URL, Active: true, Maintenance: true}, {Name: "b", URL: r.backends[1].URL}} {
		if _, err := other.Set(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := readers(t, front.URL, 5), map[string]int{"a": 5}; !maps.Equal(got, want) {
		t.Errorf("without those in maintenance and inactive: %v, want %v", got, want)
	}
}

func TestLeastLatency(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.from()
	fast := r.backends[1].refuse
	r.backends[0].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		time.Sleep(50 * time.Millisecond) // the work it does
		return fast(w, req)
	})
	m := r.open(t, mirror.Config{Reads: mirror.LeastLatency})
	run(t, m)
	front := serve(t, m)
	readers(t, front.URL, 2)
	var asked atomic.Int64
	r.backends[0].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/who" {
			asked.Add(1)
		}
		return fast(w, req)
	})
	readers(t, front.URL, 10)
	if n := asked.Load(); n > 1 {
		t.Errorf("the slow one got %d of 10", n)
	}
}

// A read is sent to another backend when one does not answer, and a backend that fails again and again is not asked for a while.
func TestReadGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.from()
	m := r.open(t, mirror.Config{Reads: mirror.ByPriority, Health: mirror.Health{Every: -1}})
	run(t, m)
	front := serve(t, m)
	var asked atomic.Int64
	r.backends[0].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		asked.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
	if got, want := readers(t, front.URL, 20), map[string]int{"b": 20}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := asked.Load(); n < 5 || n > 10 { // five, each on a connection that was kept and on a new one
		t.Errorf("asked %d times, want 5 before it is ejected", n)
	}
	r.backends[1].Close()
	if got, want := readers(t, front.URL, 20), map[string]int{"c": 20}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	r.backends[2].Close()
	got := do(t, "GET", front.URL+"/who", "")
	if code, _, _ := problem(t, got); got.status != http.StatusServiceUnavailable || code != "unavailable" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %q", got.status, got.body)
	}
}

func TestReadTimeout(t *testing.T) {
	t.Parallel()
	for _, transport := range []http.RoundTripper{nil, &http.Transport{}} {
		r := newRig(t, 1)
		end := make(chan struct{})
		r.backends[0].setRefuse(func(_ http.ResponseWriter, req *http.Request) bool {
			select {
			case <-end:
			case <-req.Context().Done():
			}
			return true
		})
		m := r.open(t, mirror.Config{ReadTimeout: 100 * time.Millisecond, Transport: transport, Health: mirror.Health{Every: -1}})
		run(t, m)
		got := do(t, "GET", serve(t, m).URL+"/x", "")
		close(end)
		if code, _, _ := problem(t, got); got.status != http.StatusGatewayTimeout || code != "deadline_exceeded" {
			t.Errorf("%d %q", got.status, got.body)
		}
		if tr, ok := transport.(*http.Transport); ok {
			tr.CloseIdleConnections()
		}
	}
}

// stream is a backend whose answers come in parts.
func streaming(t *testing.T, proceed <-chan struct{}, body []byte) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/events":
			h.Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-proceed:
				_, _ = io.WriteString(w, "data: 2\n\n")
			case <-r.Context().Done():
			}
		case "/large":
			h.Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
		case "/trailers":
			h.Set("Trailer", "X-Sum, Connection")
			h.Set("Connection", "X-Hop")
			h.Set("X-Hop", "1")
			h.Set("Keep-Alive", "1")
			h.Set("Skybus-Seq", "1")
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			h.Set("X-Sum", "abc")
		case "/broken":
			h.Set("Content-Length", "100")
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/echo":
			data, _ := io.ReadAll(r.Body)
			h.Set("X-Echo", string(data))
			h.Set("X-Target", r.RequestURI)
			h.Set("X-Host", r.Host)
			h.Set("X-For", r.Header.Get("X-Forwarded-For"))
			h.Set("X-Key", r.Header.Get("Skybus-Min-Seq")+r.Header.Get("X-Skybus-A")+r.Header.Get("Te")+r.Header.Get("X-Named"))
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestReadStreams(t *testing.T) {
	t.Parallel()
	body := make([]byte, 20<<20)
	_, _ = rand.Read(body)
	for name, transport := range map[string]http.RoundTripper{"own": nil, "net/http": &http.Transport{DisableCompression: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 0)
			proceed := make(chan struct{})
			backend := streaming(t, proceed, body)
			m := r.open(t, mirror.Config{Transport: transport})
			if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: backend.URL, Active: true}); err != nil {
				t.Fatal(err)
			}
			run(t, m)
			front := serve(t, m)
			checkEvents(t, front.URL, proceed)
			if got := do(t, "GET", front.URL+"/large", ""); got.body != string(body) || got.header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("large: %d bytes, length %q", len(got.body), got.header.Get("Content-Length"))
			}
			if got := do(t, "HEAD", front.URL+"/large", ""); got.body != "" || got.header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("HEAD: %d bytes, length %q", len(got.body), got.header.Get("Content-Length"))
			}
			checkTrailers(t, front.URL)
			if got := raw(t, front.URL, "GET /broken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "Content-Length: 100") || !strings.HasSuffix(got, "part") {
				t.Errorf("broken: %q", got)
			}
			got := do(t, "GET", front.URL+"/echo?a=%2F&b", "a body", "Skybus-Min-Seq", "0", "X-Skybus-A", "1", "Te", "trailers", "Connection", "X-Named", "X-Named", "1", "X-Forwarded-For", "192.0.2.1")
			want := map[string]string{"X-Echo": "a body", "X-Target": "/echo?a=%2F&b", "X-Host": strings.TrimPrefix(front.URL, "http://"), "X-For": "127.0.0.1", "X-Key": ""}
			for name, v := range want {
				if got.header.Get(name) != v || got.status != http.StatusTeapot {
					t.Errorf("%s: %q, want %q", name, got.header.Get(name), v)
				}
			}
			if tr, ok := transport.(*http.Transport); ok {
				tr.CloseIdleConnections()
			}
		})
	}
}

// checkEvents sees that events come when they happen.
func checkEvents(t *testing.T, url string, proceed chan<- struct{}) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 2 {
		line, err := lines.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i+1); line != want || err != nil {
			t.Fatalf("event %q, %v, want %q", line, err, want)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			proceed <- struct{}{}
		}
	}
}

func checkTrailers(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/trailers", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "body" || resp.Trailer.Get("X-Sum") != "abc" {
		t.Errorf("%q, %v, trailer %v", body, err, resp.Trailer)
	}
	for _, name := range []string{"X-Hop", "Keep-Alive", "Skybus-Seq"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("%s was passed on", name)
		}
	}
}

// A client that leaves ends what its backend does for it.
func TestReaderGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	began, gone := make(chan struct{}), make(chan struct{})
	r.backends[0].setRefuse(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path != "/x" {
			return false
		}
		close(began)
		<-req.Context().Done()
		close(gone)
		return true
	})
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, front.URL+"/x", nil)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-began
	leave()
	<-ended
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("the backend was not told")
	}
}

// Reads go where what they ask for was applied, and wait for it.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.First, Cookie: "mirror", ReadWait: 500 * time.Millisecond, Lanes: 4, AckRules: []mirror.AckRule{{Path: "/q", Ack: mirror.Queued}}})
	run(t, m)
	front := serve(t, m)
	proceed := make(chan struct{})
	r.backends[1].setRefuse(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut {
			<-proceed
		}
		return false
	})
	defer close(proceed)
	put := do(t, "PUT", front.URL+"/x", "new")
	if put.status != http.StatusOK {
		t.Fatalf("%d %q", put.status, put.body)
	}
	seq, lane := put.header.Get("Skybus-Seq"), put.header.Get("Skybus-Lane")
	cookie := put.header.Get("Set-Cookie")
	if want := "mirror=" + seq + "." + lane + "; Path=/; HttpOnly; SameSite=Lax"; cookie != want {
		t.Errorf("cookie %q, want %q", cookie, want)
	}
	cookie, _, _ = strings.Cut(cookie, ";")
	for _, header := range [][]string{{"Skybus-Min-Seq", seq}, {"Skybus-Min-Seq", seq, "Skybus-Lane", lane}, {"Cookie", "a=b; " + cookie}} {
		for range 6 { // each of the two would be asked three times
			if got := do(t, "GET", front.URL+"/x", "", header...); got.status != http.StatusOK || got.body != "new" {
				t.Errorf("%v: %d %q", header, got.status, got.body)
			}
		}
	}
	r.backends[0].setRefuse(unavailable)
	queued := do(t, "PUT", front.URL+"/q", "").header.Get("Skybus-Seq")
	begin := time.Now()
	got := do(t, "GET", front.URL+"/q", "", "Skybus-Min-Seq", queued)
	if _, _, _ = problem(t, got); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || time.Since(begin) < 500*time.Millisecond {
		t.Errorf("a write that nobody has, after %v: %d %q", time.Since(begin), got.status, got.body)
	}
	r.backends[0].setRefuse(nil)
	got = do(t, "GET", front.URL+"/x", "", "Skybus-Min-Seq", "1000000")
	if _, _, _ = problem(t, got); got.status != http.StatusBadRequest {
		t.Errorf("a write that there is not: %d %q", got.status, got.body)
	}
	for _, header := range wrongMinimums() {
		if got := do(t, "GET", front.URL+"/x", "", header...); got.status != http.StatusBadRequest {
			t.Errorf("%v: %d %q", header, got.status, got.body)
		}
	}
	if got := do(t, "GET", front.URL+"/x", "", "Cookie", "mirror=rubbish"); got.status == http.StatusBadRequest || got.status >= 500 {
		t.Errorf("another's cookie: %d %q", got.status, got.body)
	}
	// A second write in another lane, while the first is not everywhere: the cookie stands for both.
	for i := range 20 {
		path := fmt.Sprintf("/y%d", i)
		other := do(t, "PUT", front.URL+path, "", "Cookie", cookie)
		if other.header.Get("Skybus-Lane") != lane {
			if c := other.header.Get("Set-Cookie"); !strings.HasPrefix(c, "mirror="+other.header.Get("Skybus-Seq")+";") {
				t.Errorf("cookie of two lanes %q", c)
			}
			return
		}
	}
	t.Error("all paths have one lane")
}

func wrongMinimums() [][]string {
	return [][]string{{"Skybus-Min-Seq", "x"}, {"Skybus-Min-Seq", "-1"}, {"Skybus-Min-Seq", "1", "Skybus-Lane", "4"}, {"Skybus-Min-Seq", "1", "Skybus-Min-Seq", "2"}}
}

// A backend that is too far behind, or whose writes nobody sends, serves no reads.
func TestLag(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.from()
	m := r.open(t, mirror.Config{MaxLag: 300 * time.Millisecond, Ack: mirror.First})
	stop := run(t, m)
	front := serve(t, m)
	who := r.backends[1].refuse
	proceed := make(chan struct{})
	r.backends[1].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut {
			<-proceed
		}
		return who(w, req)
	})
	if got := readers(t, front.URL, 10); got["a"] != 5 || got["b"] != 5 {
		t.Errorf("level: %v", got)
	}
	do(t, "PUT", front.URL+"/x", "1")
	eventually(t, "the one behind left out", func() bool { return readers(t, front.URL, 4)["a"] == 4 })
	close(proceed)
	eventually(t, "the one behind back", func() bool { return readers(t, front.URL, 4)["b"] == 2 })
	stop()
	if got := readers(t, front.URL, 4); got["a"] != 2 || got["b"] != 2 {
		t.Errorf("with no sender and nothing to send: %v", got)
	}
	queued := make(chan response, 1)
	go func() { queued <- recorded(m, "PUT", "/x", "2") }()
	eventually(t, "reads refused while nobody sends", func() bool { return do(t, "GET", front.URL+"/who", "").status == http.StatusServiceUnavailable })
	run(t, m)
	eventually(t, "both back", func() bool {
		got := do(t, "GET", front.URL+"/who", "")
		return got.status == http.StatusOK
	})
	if got := <-queued; got.status != http.StatusOK {
		t.Errorf("%d %q", got.status, got.body)
	}
}
