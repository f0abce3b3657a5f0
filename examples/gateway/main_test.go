package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

// screen is what the example prints.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// after is what stands behind a word at the beginning of a line.
func (s *screen) after(word string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.text.String()) {
		if rest, ok := strings.CutPrefix(line, word+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// start runs the example.
func start(t *testing.T) (url, key string) {
	t.Helper()
	srv := bustest.Server(t, bustest.TCP())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var out screen
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"--listen", "127.0.0.1:0", "--server", srv.URL()}, &out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	bustest.Eventually(t, "the example", func() bool { return out.after("key") != "" })
	return out.after("url"), out.after("key")
}

func ask(t *testing.T, method, url, body string, headers ...string) (status int, answer string, h http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

func TestExample(t *testing.T) {
	url, key := start(t)
	events := listen(t, url+"/orders/events")
	const order = `{"id":"7","item":"widget","count":2}`
	if status, body, _ := ask(t, "POST", url+"/orders", order); status != 401 {
		t.Errorf("without a key: %d %s", status, body)
	}
	for i, replayed := range []string{"", "true"} {
		status, body, h := ask(t, "POST", url+"/orders", order, "X-Api-Key", key, "Idempotency-Key", "once")
		if status != 201 || body != order || h.Get("Idempotency-Replayed") != replayed {
			t.Errorf("order %d: %d %s %v", i, status, body, h)
		}
	}
	select {
	case data := <-events:
		if data != `{"id":"7"}` {
			t.Errorf("event %s", data)
		}
	case <-time.After(patience):
		t.Error("no event")
	}
	if status, body, _ := ask(t, "GET", url+"/orders/7", "", "X-Api-Key", key); status != 200 || body != order {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := ask(t, "GET", url+"/orders/7", "", "X-Api-Key", key, "Accept", "text/html"); status != 200 || body != "<h1>2 widget</h1>" {
		t.Errorf("for a browser: %d %s", status, body)
	}
	if status, _, _ := ask(t, "GET", url+"/orders/8", "", "X-Api-Key", key); status != 404 {
		t.Errorf("a missing one: %d", status)
	}
	limited := false
	for range 12 {
		status, _, h := ask(t, "POST", url+"/orders", order, "X-Api-Key", key)
		limited = limited || status == 429 && h.Get("Retry-After") != ""
	}
	if !limited {
		t.Error("12 orders in a second are not too many")
	}
	status, body, _ := ask(t, "GET", url+"/v1/openapi.json", "", "X-Api-Key", key)
	var doc struct {
		OpenAPI string         `json:"openapi"`
		Paths   map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || status != 200 || doc.OpenAPI != "3.1.0" || doc.Paths["/orders/{id}"] == nil || doc.Paths["/orders"] == nil {
		t.Errorf("%d %.500s: %v", status, body, err)
	}
	if status, body, _ := ask(t, "GET", url+"/v1/docs", ""); status != 200 && status != 307 || strings.Contains(body, key) {
		t.Errorf("the page: %d %.200s", status, body)
	}
}

// listen returns the data of events.
func listen(t *testing.T, url string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() }) // it has no end
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("events: %d", resp.StatusCode)
	}
	data := make(chan string, 10)
	go func() {
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
				data <- strings.TrimSpace(text)
			}
		}
	}()
	return data
}
