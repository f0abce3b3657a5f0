package httpapi_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

const typeLines = "application/x-ndjson"

type lineResult struct {
	Line     int               `json:"line"`
	Status   int               `json:"status"`
	ID       string            `json:"id"`
	Revision uint64            `json:"revision"`
	Due      time.Time         `json:"due"`
	Code     string            `json:"code"`
	Detail   string            `json:"detail"`
	Errors   []fieldError      `json:"errors"`
	Details  map[string]string `json:"details"`
}

func results(t testing.TB, body string) (all []lineResult) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	for {
		var r lineResult
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		all = append(all, r)
	}
}

// TestLines has good and bad lines, of which none ends the stream.
func TestLines(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{MaxBody: 100 << 10})
	good := func(id string) string { return `{"id":"` + id + `","after":"1h",` + target + `}` }
	long := strings.Repeat("x", 200<<10)
	body := strings.Join([]string{
		good("a"), `{"id":"b"`, ``, good("c"), good("a"), `{"after":"1h","typo":1,` + target + `}`, `{"id":"` + long + `"}`, "  \t", good("d") + "\r",
		`{"after":5,` + target + `}`, good("e"), `{"id":"f","payload":"` + long[:90<<10] + `","after":"1h",` + target + `}`, good("g"),
	}, "\n")
	for _, end := range []string{"", "\n"} {
		a := send(t, http.MethodPost, h.url+"/v1/timers", body+end, "Content-Type", typeLines).want(t, http.StatusOK)
		if a.header.Get("Content-Type") != typeLines {
			t.Errorf("%v", a.header)
		}
		var text strings.Builder
		for _, r := range results(t, a.body) {
			fmt.Fprintf(&text, "%d:%d:%s ", r.Line, r.Status, r.ID)
			if created := r.Status == http.StatusCreated; created != (r.Revision != 0 && !r.Due.IsZero() && r.Code == "") || !created && (r.Code == "" || r.Detail == "") {
				t.Errorf("%+v", r)
			}
			if r.Line == 6 && (len(r.Errors) != 1 || r.Errors[0].Field != "typo") {
				t.Errorf("%+v", r)
			}
		}
		want := "1:201:a 2:400: 4:201:c 5:409: 6:400: 7:413: 9:201:d 10:422: 11:201:e 12:201:f 13:201:g "
		if end != "" { // they are there already
			for _, id := range []string{"a", "c", "d", "e", "f", "g"} {
				want = strings.ReplaceAll(want, "201:"+id, "409:")
			}
		}
		if text.String() != want {
			t.Errorf("got  %s\nwant %s", text.String(), want)
		}
	}
	a := send(t, http.MethodPost, h.url+"/v1/timers", "", "Content-Type", typeLines).want(t, http.StatusOK)
	if a.body != "" || a.header.Get("Content-Type") != typeLines {
		t.Errorf("nothing: %q %v", a.body, a.header)
	}
	a = send(t, http.MethodPost, h.url+"/v1/timers", long, "Content-Type", typeLines).want(t, http.StatusOK)
	if r := results(t, a.body); len(r) != 1 || r[0].Status != http.StatusRequestEntityTooLarge {
		t.Errorf("%s", a.body)
	}
}

// dialogue is a stream that is written and read in turns.
type dialogue struct {
	t    testing.TB
	w    *io.PipeWriter
	resp chan *http.Response
	err  chan error
	in   *bufio.Scanner
}

func talk(t testing.TB, c *http.Client, url string) *dialogue {
	t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/timers", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", typeLines)
	d := &dialogue{t: t, w: w, resp: make(chan *http.Response, 1), err: make(chan error, 1)}
	go func() {
		resp, err := c.Do(req)
		if err != nil {
			d.err <- err
			return
		}
		d.resp <- resp
	}()
	t.Cleanup(func() { _ = w.Close() }) // the test has looked
	return d
}

func (d *dialogue) say(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.w, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dialogue) hear() (r lineResult) {
	d.t.Helper()
	if d.in == nil {
		select {
		case resp := <-d.resp:
			d.t.Cleanup(func() { _ = resp.Body.Close() }) // the test has looked
			d.in = bufio.NewScanner(resp.Body)
		case err := <-d.err:
			d.t.Fatal(err)
		case <-time.After(patience):
			d.t.Fatal("waited for an answer to begin")
		}
	}
	if !d.in.Scan() {
		return r
	}
	if err := json.Unmarshal(d.in.Bytes(), &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// TestLinesDialogue has a client that waits for each answer before it goes on.
func TestLinesDialogue(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	c := client(t)
	d := talk(t, c, h.url)
	for i := range 5 {
		d.say(`{"id":"t` + strconv.Itoa(i) + `","after":"1h",` + target + `}`)
		if r := d.hear(); r.Line != 2*i+1 || r.Status != http.StatusCreated {
			t.Errorf("%+v", r)
		}
		d.say(`bad`)
		if r := d.hear(); r.Line != 2*i+2 || r.Status != http.StatusBadRequest {
			t.Errorf("%+v", r)
		}
	}
	_ = d.w.Close() // never fails
	if r := d.hear(); r.Line != 0 {
		t.Errorf("%+v after the end", r)
	}
	// The connection is as good as before.
	resp, err := c.Get(h.url + "/ping") //nolint:noctx // a connection that was used
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp).want(t, http.StatusOK)
}

// TestLinesMany has more lines than may be under way, from a client that reads while it writes.
func TestLinesMany(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	const n = 20000
	d := talk(t, client(t), h.url)
	go func() {
		w := bufio.NewWriter(d.w)
		for i := range n {
			line := `{"id":"t` + strconv.Itoa(i) + `","after":"1h",` + target + `}`
			if i%10 == 9 {
				line = `{}`
			}
			_, _ = w.WriteString(line + "\n") // the answers tell
		}
		_ = w.Flush()
		_ = d.w.Close()
	}()
	for i := range n {
		r := d.hear()
		want := http.StatusCreated
		if i%10 == 9 {
			want = http.StatusUnprocessableEntity
		}
		if r.Line != i+1 || r.Status != want || want == http.StatusCreated && r.ID != "t"+strconv.Itoa(i) {
			t.Fatalf("line %d: %+v", i+1, r)
		}
	}
	if r := d.hear(); r.Line != 0 {
		t.Errorf("%+v after the end", r)
	}
}

// TestLinesStop has a server that stops while a stream waits for more.
func TestLinesStop(t *testing.T) {
	t.Parallel()
	s := open(t, server(t))
	srv := serve(t, handler(t, s, httpapi.Config{}))
	d := talk(t, client(t), srv.url)
	d.say(`{"id":"a","after":"1h",` + target + `}`)
	if r := d.hear(); r.Status != http.StatusCreated {
		t.Fatalf("%+v", r)
	}
	srv.stop()
	if r := d.hear(); r.Line != 2 || r.Status != http.StatusServiceUnavailable {
		t.Errorf("%+v", r)
	}
	if r := d.hear(); r.Line != 0 {
		t.Errorf("%+v after the end", r)
	}
	if err := bustest.Receive(t, "Serve", srv.done); err != nil {
		t.Error(err)
	}
}

// TestLinesGone has a client that goes without an end.
func TestLinesGone(t *testing.T) {
	t.Parallel()
	s := open(t, server(t))
	srv := serve(t, handler(t, s, httpapi.Config{MaxInFlight: 1}))
	d := talk(t, client(t), srv.url)
	d.say(`{"id":"a","after":"1h",` + target + `}`)
	if r := d.hear(); r.Status != http.StatusCreated {
		t.Fatalf("%+v", r)
	}
	a := send(t, http.MethodGet, srv.url+"/v1/timers/a", "").want(t, http.StatusServiceUnavailable)
	if a.problem(t); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	if a := send(t, http.MethodPost, srv.url+"/timer", good).want(t, http.StatusServiceUnavailable); a.reason() == "" || a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	send(t, http.MethodGet, srv.url+"/ping", "").want(t, http.StatusOK)
	_ = d.w.CloseWithError(errors.New("gone")) // never fails
	eventually(t, func() string {
		if a := send(t, http.MethodGet, srv.url+"/v1/timers/a", ""); a.status != http.StatusOK {
			return "the place of a client that went is not free: " + a.body
		}
		return ""
	})
	for tm, err := range s.List(t.Context(), scheduler.Filter{}) {
		if err != nil || tm.ID != "a" {
			t.Errorf("%v %v came from nowhere", tm, err)
		}
	}
}
