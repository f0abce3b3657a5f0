package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/skybus-io/skybus/scheduler/webhook"
)

// A receiver: it answers 200 to what is signed with its secret, and 400 or 401 to the rest.
func ExampleHandler() {
	verifier, err := webhook.NewVerifier("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /hook", webhook.Handler(verifier, 64<<10, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // is in memory already
		fmt.Printf("%s: %s\n", r.Header.Get(webhook.HeaderID), body)
	})))

	// What a sender does.
	signer, _ := webhook.NewSigner("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	send := func(signed, sent string) {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/hook", bytes.NewBufferString(sent))
		if err := signer.Sign(r.Header, "order-1", time.Now(), []byte(signed)); err != nil {
			panic(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	send("paid", "paid")
	send("paid", "not paid")
	// Output:
	// order-1: paid
	// 200
	// 401
}
