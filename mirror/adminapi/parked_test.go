package adminapi_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

// useWrites has a backend that refuses what the others take.
func useWrites(c *checked, h *house) {
	var refuse atomic.Int64
	refuse.Store(http.StatusBadRequest)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Set-Cookie", "s=secret")
			w.WriteHeader(int(refuse.Load()))
		}
	}))
	c.t.Cleanup(srv.Close)
	h.set(c.t, mirror.Backend{Name: "a", URL: application(c.t, 200), Active: true})
	h.set(c.t, mirror.Backend{Name: "b", URL: application(c.t, 200), Active: true})
	h.set(c.t, mirror.Backend{Name: "c", URL: srv.URL, Active: true})
	h.run(c.t)
	c.send("GET", "/v1/writes/1", "", 404).problem(c.t)
	c.send("GET", "/v1/parked", "", 200)
	c.send("GET", "/v1/diff", "", 200)
	h.write(c.t, 3)

	var list struct {
		Parked []struct {
			Backend string
			Seq     uint64
			Status  int
			Target  string
		}
		More bool
		Next string
	}
	eventually(c.t, func() string {
		a := c.send("GET", "/v1/parked", "", 200)
		if a.decode(c.t, &list); len(list.Parked) == 3 {
			return ""
		}
		return a.body
	})
	if p := list.Parked[0]; p.Backend != "c" || p.Seq != 1 || p.Status != 400 || p.Target != "/item" || list.More {
		c.t.Errorf("%+v", list)
	}
	c.send("GET", "/v1/parked?backend=c&limit=2", "", 200).decode(c.t, &list)
	if len(list.Parked) != 2 || !list.More {
		c.t.Errorf("%+v", list)
	}
	c.send("GET", "/v1/parked?backend=c&limit=2&cursor="+list.Next, "", 200).decode(c.t, &list)
	if len(list.Parked) != 1 || list.Parked[0].Seq != 3 || list.More {
		c.t.Errorf("the second page is %+v", list)
	}
	c.send("GET", "/v1/parked?cursor=x", "", 422).problem(c.t)
	c.send("GET", "/v1/parked?backend=a", "", 200).decode(c.t, &list)
	if len(list.Parked) != 0 || list.More {
		c.t.Errorf("%+v", list)
	}
	useParked(c, &refuse)
	useDifferences(c)
	useRepair(c)
}

func useParked(c *checked, refuse *atomic.Int64) {
	a := c.send("GET", "/v1/parked/c/1", "", 200)
	if !strings.Contains(a.body, "PUT /item HTTP/1.1") || !strings.Contains(a.body, "Set-Cookie: (hidden)") || strings.Contains(a.body, "s=secret") {
		c.t.Error(a.body)
	}
	c.send("POST", "/v1/parked/c/1/retry", "", 409).problem(c.t)
	refuse.Store(http.StatusServiceUnavailable)
	c.send("POST", "/v1/parked/c/1/retry", "", 503).problem(c.t)
	refuse.Store(http.StatusOK)
	c.send("POST", "/v1/parked/c/1/retry", "", 200)
	c.send("POST", "/v1/parked/c/1/retry", "", 404).problem(c.t)
	c.send("DELETE", "/v1/parked/c/2", "", 204)
	c.send("DELETE", "/v1/parked/c/2", "", 404).problem(c.t)
	for _, path := range []string{"/v1/parked/c/2", "/v1/parked/c/x", "/v1/parked/c/01", "/v1/parked/z/3", "/v1/parked/%3E/3", "/v1/writes/0", "/v1/writes/99", "/v1/writes/1e3"} {
		c.send("GET", path, "", 404).problem(c.t)
	}
}

func useDifferences(c *checked) {
	var diff struct {
		Writes []struct {
			Seq     uint64
			Answers map[string]struct{ Status int }
		}
		Next uint64
	}
	eventually(c.t, func() string {
		a := c.send("GET", "/v1/diff", "", 200)
		if a.decode(c.t, &diff); len(diff.Writes) == 2 { // one was retried
			return ""
		}
		return a.body
	})
	if d := diff.Writes[0]; d.Seq != 2 || d.Answers["a"].Status != 200 || d.Answers["c"].Status != 400 {
		c.t.Errorf("%+v", d)
	}
	c.send("GET", "/v1/diff?from=2&limit=1&by=status", "", 200).decode(c.t, &diff)
	if len(diff.Writes) != 1 || diff.Writes[0].Seq != 2 || diff.Next != 3 {
		c.t.Errorf("%+v", diff)
	}
	c.send("GET", "/v1/diff?backend=a&backend=b&to=2", "", 200).decode(c.t, &diff)
	if len(diff.Writes) != 0 {
		c.t.Errorf("%+v", diff)
	}
	c.send("GET", "/v1/diff?backend=z", "", 404).problem(c.t)
	for path, field := range map[string]string{
		"/v1/diff?by=x": "by", "/v1/diff?from=0": "from", "/v1/diff?to=x": "to", "/v1/diff?limit=0": "limit", "/v1/diff?from=1&from=2": "from",
		"/v1/parked?limit=10001": "limit", "/v1/parked?backend=a.b": "backend",
	} {
		if p := c.send("GET", path, "", 422).problem(c.t); p.fields() != field {
			c.t.Errorf("%s: wrong in %q", path, p.fields())
		}
	}
	c.send("GET", "/v1/diff?since=1", "", 400).problem(c.t)
}

func useRepair(c *checked) {
	var write struct {
		State    string
		Backends map[string]struct {
			State  string
			Status int
		}
	}
	c.send("GET", "/v1/writes/2", "", 200).decode(c.t, &write)
	if write.State != "applied" || write.Backends["c"].State != "applied" || write.Backends["c"].Status != 400 {
		c.t.Errorf("%+v", write)
	}
	// Once more, to one that takes it now.
	var b struct{ From, Applied uint64 }
	c.send("POST", "/v1/backends/c/repair", `{"from":2}`, 200).decode(c.t, &b)
	if b.From != 2 {
		c.t.Errorf("%+v", b)
	}
	c.send("POST", "/v1/drain", `{"backends":["c"]}`, 200)
	c.send("GET", "/v1/writes/2", "", 200).decode(c.t, &write)
	if write.Backends["c"].Status != 200 {
		c.t.Errorf("%+v", write)
	}
	c.send("POST", "/v1/backends/c/repair", "", 200)
	c.send("POST", "/v1/backends/z/repair", "", 404).problem(c.t)
	for _, from := range []string{"0", `"now"`, "99", "-1"} {
		if p := c.send("POST", "/v1/backends/c/repair", `{"from":`+from+`}`, 422).problem(c.t); p.fields() != "from" {
			c.t.Errorf("%s: wrong in %q", from, p.fields())
		}
	}
}

func TestHideSecrets(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"": "",
		"PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\ncookie:a=b\r\nX-My-Token: y\r\nIdempotency-Key: k\r\n\r\nCookie: z\r\n": "PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: (hidden)\r\ncookie: (hidden)\r\nX-My-Token: (hidden)\r\nIdempotency-Key: k\r\n\r\nCookie: z\r\n",
		"c 400\r\nSet-Cookie: a\r\n\r\n\x00\xff": "c 400\r\nSet-Cookie: (hidden)\r\n\r\n\x00\xff",
		"no head":                                "no head",
	} {
		if got := string(adminapi.HideSecrets([]byte(message))); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
	text, err := adminapi.FormatParked(&mirror.ParkedWrite{Seq: 7, Request: []byte("a"), Answer: []byte{0xff}})
	if err != nil || !strings.Contains(string(text), `"request":"a","answer_base64":"/w=="`) || !strings.Contains(string(text), `"seq":`+strconv.Itoa(7)) {
		t.Errorf("%s %v", text, err)
	}
}
