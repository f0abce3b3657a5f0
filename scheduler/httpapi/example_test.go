package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// A program that has timers serves them beside what else it serves. Whoever runs the scheduler delivers them: here nobody.
func ExampleNew() {
	ctx := context.Background()
	conn, done := exampleConn(ctx)
	defer done()

	timers, err := scheduler.Open(ctx, conn, scheduler.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		panic(err)
	}
	defer func() { _ = timers.Close() }()
	api, err := httpapi.New(timers, httpapi.Config{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	api.Mount(mux)
	srv := httptest.NewServer(mux) // or any other server
	defer srv.Close()

	timer := `{"timeout":60000,"data":{"order":1},"callback":{"transport":"http","method":"post","uri":"http://127.0.0.1:8000/hook"}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/timer", strings.NewReader(timer))
	if err != nil {
		panic(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	_ = resp.Body.Close() // it has none
	fmt.Println(resp.Status, strings.HasPrefix(resp.Header.Get("Location"), "/timer/"))
	// Output: 201 Created true
}
