package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler"
)

// TestWanted keeps the large measurements out of runs that do not name them.
func TestWanted(t *testing.T) {
	t.Parallel()
	large := 0
	for _, p := range parts() {
		if p.large {
			large++
		}
	}
	if large == 0 {
		t.Error("no part is large")
	}
	for only, want := range map[string]int{
		"": len(parts()) - large, nameTimers: 6, nameTimersMillion: 1, nameTimersLate + "," + nameSlow: 2, nameGatewayCall: 1,
	} {
		var s settings
		if only != "" {
			s.only = strings.Split(only, ",")
		}
		n := 0
		for _, p := range parts() {
			if p.wanted(s) {
				n++
			}
		}
		if n != want {
			t.Errorf("-only %q wants %d parts: want %d", only, n, want)
		}
	}
	if (settings{only: []string{nameTimersLate}}).needsProgram() || !(settings{only: []string{nameTimers}}).needsProgram() {
		t.Error("the program is built for who does not need it, or not for who does")
	}
}

func TestLeanCaller(t *testing.T) {
	t.Parallel()
	status := http.StatusCreated
	got := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		w.WriteHeader(status)
		_, _ = w.Write([]byte("body")) // the client looks at it
	}))
	t.Cleanup(server.Close)
	call, stop := newLeanCaller(t.Context(), []string{server.URL})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for range 3 { // over one connection
		if err := call(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if r := <-got; r.Method != http.MethodPost || r.URL.Path != "/timer" || r.ContentLength <= timerBody || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %s with %d bytes, %v", r.Method, r.URL, r.ContentLength, r.Header)
		}
	}
	status = http.StatusBadRequest
	err := call(t.Context(), 1)
	<-got
	if err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("an answer of 400 is %v: want an error", err)
	}
}

func TestSink(t *testing.T) {
	t.Parallel()
	act, urls, stop, err := newSink(t.Context(), order{Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	post := func(i int, due time.Time) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, urls[i%2], strings.NewReader(string(numbered(i))))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(scheduler.HeaderDue, due.UTC().Format(time.RFC3339Nano))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatalf("status %d, %v", resp.StatusCode, err)
		}
	}
	expect := func(n int) {
		if _, err := act(t.Context(), order{Variant: actExpect, Count: n}); err != nil {
			t.Fatal(err)
		}
	}
	await := func(d time.Duration) (hooks, error) {
		ans, err := act(t.Context(), order{Variant: actAwait, For: d})
		return ans.Hooks, err
	}

	expect(3)
	for _, i := range []int{0, 2, 2, 1} {
		post(i, time.Now().Add(-time.Minute))
	}
	h, err := await(time.Minute)
	if err != nil || h.Again != 1 || h.Late.P50 < 59*time.Second || h.Late.Max > 2*time.Minute || h.Last.Before(h.First) {
		t.Errorf("got %+v, %v: want lateness of a minute, and one that came again", h, err)
	}
	expect(2)
	post(0, time.Now())
	if _, err := await(time.Millisecond); err == nil || !strings.Contains(err.Error(), "1 webhooks") {
		t.Errorf("with one of two: %v", err)
	}
	expect(1)
	post(0, time.Now().Add(time.Minute))
	if _, err := await(time.Minute); err == nil || !strings.Contains(err.Error(), "before they were due") {
		t.Errorf("with one that came early: %v", err)
	}
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	o := order{Count: 4, Lead: time.Second, Over: 2 * time.Second, URLs: []string{"a", "b"}}
	all := slices.Collect(specs(o, begin))
	if len(all) != 4 || !all[0].At.Equal(begin.Add(time.Second)) || !all[3].At.Equal(o.due(begin, 3)) || all[3].Target.URI != "b" || len(all[3].Payload) != timerBody {
		t.Errorf("got %+v", all)
	}
	if n := len(slices.Collect(specs(order{For: time.Millisecond}, begin))); n == 0 || n%checkEvery != 0 {
		t.Errorf("%d timers for a time: want a multiple of %d", n, checkEvery)
	}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := diskOf(dir); err != nil || n < 1<<20 || n > 2<<20 {
		t.Errorf("a file of 1 MiB takes %d, %v", n, err)
	}
}
