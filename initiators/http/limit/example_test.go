package limit_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/limit"
)

func Example() {
	limiter, err := limit.New(limit.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	entry := limiter.Entry("orders", limit.Limits{IP: &limit.Rate{Requests: 2, Per: 60e9}, Concurrent: 100})
	var proxies limit.Proxies // none is trusted

	orders := func(w http.ResponseWriter, r *http.Request) {
		d := entry.IP(proxies.ClientIP(r))
		d.SetHeader(w.Header())
		if !d.OK {
			e := bus.AsError(d.Err())
			http.Error(w, e.Message, e.HTTPStatus())
			return
		}
		if !entry.Begin() {
			http.Error(w, entry.ErrBusy().Message, http.StatusServiceUnavailable)
			return
		}
		defer entry.End()
		fmt.Fprintln(w, "hello")
	}
	for range 3 {
		w := httptest.NewRecorder()
		orders(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/orders", nil))
		fmt.Print(w.Code, " ", w.Header().Get("RateLimit-Policy"), " ", w.Body)
	}
	// Output:
	// 200 "ip";q=2;w=60 hello
	// 200 "ip";q=2;w=60 hello
	// 429 "ip";q=2;w=60 too many requests: this address may make 2 in 1m0s here
}
