//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
)

// slowTickets serves tickets.slow, whose calls tell begun their key and end when release is closed.
func slowTickets(t *testing.T, server string, begun chan<- string, release <-chan struct{}) {
	t.Helper()
	registered := make(chan struct{})
	svc, err := micro.NewService(connect(t, server), micro.Config{
		Name: "tickets", Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { close(registered) })},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(svc, "slow", func(ctx context.Context, in ticket) (ticket, error) {
		begun <- strings.Join(micro.RequestHeader(ctx)[initiators.HeaderKey], " ")
		select {
		case <-release:
			return in, nil
		case <-ctx.Done():
			return in, ctx.Err()
		}
	}); err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, svc.Run)
	<-registered
}

// neverAnswered sends a request with a key, and wants no answer. It closes lost when that is known.
func neverAnswered(t *testing.T, url, body, key string) (lost <-chan struct{}) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(initiators.HeaderKey, key)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			t.Errorf("a gateway that was killed answered %s", resp.Status)
			_ = resp.Body.Close()
		}
	}()
	return done
}

// TestGatewayKilled kills a gateway in the middle of a request with a key, and of one that is answered later. Another gateway does
// both again, with the same keys for their target, and answers.
func TestGatewayKilled(t *testing.T) {
	needPrograms(t)
	t.Parallel()
	server := startServer(t).Ports["nats"]
	begun, release := make(chan string, 10), make(chan struct{})
	slowTickets(t, server, begun, release)
	putEntries(t, connect(t, server), map[string]string{
		"once":  `{"method":"POST","path":"/once","call":"tickets.slow","timeout":"1m","idempotency":{"lease":"2s","wait":"1m"}}`,
		"later": `{"method":"POST","path":"/later","call":"tickets.slow","async":{}}`,
	})
	first := startGateway(t, server)
	resp, text := askHTTP(t, http.MethodPost, first.Ports["http"]+"/later", `{"text":"later"}`, "Prefer", "respond-async")
	location := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", resp.Status, text)
	}
	keys := map[string]int{<-begun: 1}
	lost := neverAnswered(t, first.Ports["http"]+"/once", `{"text":"once"}`, "k")
	keys[<-begun]++
	second := startGateway(t, server)
	first.Kill()
	<-lost
	close(release)

	began := time.Now()
	for _, replayed := range []string{"", "true"} {
		resp, text := askHTTP(t, http.MethodPost, second.Ports["http"]+"/once", `{"text":"once"}`, "Idempotency-Key", "k")
		if resp.StatusCode != http.StatusOK || !strings.Contains(text, `"once"`) || resp.Header.Get("Idempotency-Replayed") != replayed {
			t.Errorf("%s %s %v", resp.Status, text, resp.Header)
		}
	}
	t.Logf("done again by a repeat after %v", time.Since(began))
	eventually(t, patience, "the answer", func() bool {
		var st struct {
			State  string
			Answer struct{ Body ticket }
		}
		resp, text := askHTTP(t, http.MethodGet, second.Ports["http"]+location, "")
		if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &st) != nil {
			t.Fatalf("%s %s", resp.Status, text)
		}
		return st.State == "done" && st.Answer.Body.Text == "later"
	})
	t.Logf("answered later after %v", time.Since(began))
	for range 2 {
		keys[<-begun]++
	}
	for key, n := range keys {
		if key == "" || n != 2 {
			t.Errorf("the target was called %d times with the key %q, want twice with each of two", n, key)
		}
	}
}
