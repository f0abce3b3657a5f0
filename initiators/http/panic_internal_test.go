package http

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/compress"
)

// A request that somebody panics at is answered 500, and told of with the stack. Where an answer has begun the connection breaks, so that nobody takes it for a whole one; where
// it was to be broken nothing else is done.
func TestPanic(t *testing.T) {
	t.Parallel()
	begin := func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 4)) }
	for name, tt := range map[string]struct {
		compress bool
		do       func(x *exchange)
		breaks   bool
		told     bool
	}{
		"at once":           {false, func(*exchange) { panic("oh no") }, false, true},
		"below compression": {true, func(x *exchange) { x.Header().Set("Content-Length", "9"); panic("oh no") }, false, true},
		"in the middle":     {false, func(x *exchange) { begin(x); panic("oh no") }, true, true},
		"an abort":          {false, func(*exchange) { panic(http.ErrAbortHandler) }, true, false},
		"a late abort":      {false, func(x *exchange) { begin(x); panic(http.ErrAbortHandler) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			g, err := New(nil, Config{AccessLog: true, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			g.byRoute.find = func(x *exchange) (initiators.Target, error) { tt.do(x); return nil, nil }
			if tt.compress {
				if g.byRoute.compress, err = compress.New(compress.Config{}); err != nil {
					t.Fatal(err)
				}
			}
			mux := http.NewServeMux()
			mux.Handle("POST /x", g.byRoute)
			g.table.Load().listeners[""] = mux
			srv := httptest.NewServer(g)
			status, body, err := postOnce(t, srv.URL+"/x")
			srv.Close() // and with it the log is whole
			if (err != nil) != tt.breaks {
				t.Errorf("%v, %q", err, body)
			}
			if !tt.breaks && (status != http.StatusInternalServerError || !strings.Contains(body, `"request_id":"r1"`) || strings.Contains(body, "oh no")) {
				t.Errorf("%d: %s", status, body)
			}
			if told := strings.Contains(log.String(), `"panic":"oh no"`) && strings.Contains(log.String(), "panic_internal_test.go"); told != tt.told {
				t.Errorf("the log has %s", log.String())
			}
			if !strings.Contains(log.String(), `"msg":"request"`) || !strings.Contains(log.String(), `"status":500`) {
				t.Errorf("the log has %s", log.String())
			}
			var page bytes.Buffer
			if err := g.WriteMetrics(&page); err != nil || !strings.Contains(page.String(), fmt.Sprintf("skybus_http_request_seconds_count{entry=%q,status=%q} 1\n", "", "500")) {
				t.Errorf("figures: %v, %s", err, page.String())
			}
		})
	}
}

// postOnce makes a request with the id r1. An error says that there was no whole answer.
func postOnce(t *testing.T, url string) (status int, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(requestIDHeader, "r1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}
