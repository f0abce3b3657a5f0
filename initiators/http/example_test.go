package http_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	gateway "github.com/skybus-io/skybus/initiators/http"
)

// A gateway needs a runner and a listener; it knows nothing of the services.
func ExampleNew() {
	ctx, cancel := context.WithCancel(context.Background())
	runner, stop := exampleRunner(ctx) // with a route called hello
	defer stop()

	g, err := gateway.New(runner, gateway.Config{})
	if err != nil {
		panic(err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() { done <- g.Serve(ctx, l) }()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.Addr().String()+"/hello", strings.NewReader(`{"name":"Ann"}`))
	if err != nil {
		panic(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	_ = resp.Body.Close()
	fmt.Println(resp.Status, string(body))

	cancel()
	fmt.Println(<-done)
	// Output:
	// 200 OK {"text":"Hello Ann"}
	// <nil>
}
