package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// A program of one's own asks for a scope.
func Example() {
	ctx := context.Background()
	conn, stop := exampleConn(ctx)
	defer stop()
	keys, err := auth.OpenKeys(ctx, conn, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, secret, err := keys.New(ctx, auth.NewKey{Name: "billing", Scopes: []string{"orders:read"}})
	if err != nil {
		fmt.Println(err)
		return
	}

	guard, err := auth.Open(ctx, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = guard.Close() }()
	orders := func(w http.ResponseWriter, r *http.Request) {
		who, err := guard.Authorize(w.Header(), r, auth.Policy{Scopes: []string{"orders:read"}})
		if err != nil {
			e := bus.AsError(err)
			http.Error(w, e.Message, e.HTTPStatus())
			return
		}
		fmt.Fprintln(w, "hello", who.Name)
	}

	for _, key := range []string{"", "sbk_guessed", secret} {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/orders", nil)
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		w := httptest.NewRecorder()
		orders(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 401 this needs a credential
	// 401 the credential is not valid
	// 200 hello billing
}
