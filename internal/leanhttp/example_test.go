package leanhttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// A write, whose answer is read as a whole, and a read, whose answer is streamed.
func ExampleClient() {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Method, r.RequestURI, r.Header.Get("Idempotency-Key"))
	}))
	defer backend.Close()

	c, err := leanhttp.New(backend.Listener.Addr().String(), leanhttp.Config{MaxOpen: 64})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }() // always nil

	resp, err := c.Do(context.Background(), &leanhttp.Request{
		Method:     http.MethodPut,
		Target:     "/items/a%2Fb",
		Header:     leanhttp.Header{{Name: "Idempotency-Key", Value: "k1"}},
		Body:       []byte("hello"),
		Deadline:   time.Now().Add(5 * time.Second),
		Repeatable: true, // the key lets the backend tell
	})
	switch {
	case leanhttp.NotSent(err):
		fmt.Println("not applied:", err)
	case err != nil:
		fmt.Println("may have been applied:", err)
	default:
		fmt.Printf("%d %s", resp.Status, resp.Body)
	}

	s, err := c.Open(context.Background(), &leanhttp.Request{
		Method: http.MethodGet, Target: "/items?all", Deadline: time.Now().Add(5 * time.Second), Stall: 10 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }() // always nil
	if _, err := io.Copy(os.Stdout, s); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 200 PUT /items/a%2Fb k1
	// GET /items?all
}

// A backend that nobody can reach has applied nothing.
func ExampleNotSent() {
	c, err := leanhttp.New("backend.example:80", leanhttp.Config{
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }() // always nil
	_, err = c.Do(context.Background(), &leanhttp.Request{Method: http.MethodGet, Target: "/"})
	fmt.Println(leanhttp.NotSent(err), err)
	// Output: true leanhttp: dial "backend.example:80": use of closed network connection
}
