package mirror_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// exampleServer is a NATS server in this process, and a connection to it.
func exampleServer(ctx context.Context) (*bus.Conn, func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	return conn, func() {
		_ = conn.Close()
		_ = server.Close()
	}
}

// exampleNotes is an application that keeps a note at each path, and knows nothing of others.
func exampleNotes() *httptest.Server {
	var notes sync.Map
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			body, _ := io.ReadAll(r.Body) // in an example nothing breaks off
			notes.Store(r.URL.Path, body)
			w.WriteHeader(http.StatusCreated)
			return
		}
		note, ok := notes.Load(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(note.([]byte)) //nolint:forcetypeassert // there is nothing else in it
	}))
}

// exampleRequest makes a request and returns the status and the body of the answer.
func exampleRequest(method, url string, body io.Reader) (int, string) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		panic(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	return resp.StatusCode, string(answer)
}
