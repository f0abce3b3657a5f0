package adminapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"

	"github.com/skybus-io/skybus/mirror"
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
	if p := list.Parked[0]; p.Backend != "c" || p.Seq != 1 || p.Status != 400 || p.Target != "/item?token=(hidden)" || list.More {
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
	if !strings.Contains(a.body, "PUT /item?token=(hidden) HTTP/1.1") || !strings.Contains(a.body, "Set-Cookie: (hidden)") || strings.Contains(a.body, "s=secret") {
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
			Target  string
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
	if d := diff.Writes[0]; d.Seq != 2 || d.Target != "/item?token=(hidden)" || d.Answers["a"].Status != 200 || d.Answers["c"].Status != 400 {
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
