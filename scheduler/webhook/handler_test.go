package webhook_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/skybus-io/skybus/scheduler/webhook"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	signed := header(idA, "1614265330", signedA)
	tests := []struct {
		name   string
		header http.Header
		body   io.Reader
		limit  int64
		want   int
	}{
		{"signed", signed, strings.NewReader(bodyA), 0, http.StatusOK},
		{"signed, just fits", signed, strings.NewReader(bodyA), int64(len(bodyA)), http.StatusOK},
		{"length unknown", signed, io.MultiReader(strings.NewReader(bodyA)), 0, http.StatusOK},
		{"too large", signed, strings.NewReader(bodyA), int64(len(bodyA)) - 1, http.StatusRequestEntityTooLarge},
		{"too large, length unknown", signed, io.MultiReader(strings.NewReader(bodyA)), 10, http.StatusRequestEntityTooLarge},
		{"unsigned", http.Header{}, strings.NewReader(bodyA), 0, http.StatusBadRequest},
		{"changed", signed, strings.NewReader(bodyA + "x"), 0, http.StatusUnauthorized},
		{"broken off", signed, iotest.ErrReader(io.ErrUnexpectedEOF), 0, http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			h := webhook.Handler(verifier(t, timeA, secretA), tt.limit, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				got = string(body)
			}))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", tt.body)
			r.Header = tt.header
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if want := map[bool]string{true: bodyA}[tt.want == http.StatusOK]; got != want {
				t.Errorf("next got %q, want %q", got, want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(idA, "1614265330", signedA, []byte(bodyA))
	f.Add(idA, "1614265330", signedC, []byte(bodyA))
	f.Add(idA, "1614265330", wrongV1+" "+signedD, []byte(bodyA))
	f.Add("a.b", "-1", "v1, v1a,", []byte{})
	v := verifier(f, timeA, secretA, privateC, publicD)
	s := []*webhook.Signer{signer(f, secretA), signer(f, privateC), signer(f, privateD)}
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		err := v.Verify(header(id, timestamp, signature), body)
		if err != nil {
			if !errors.Is(err, webhook.ErrMalformed) && !errors.Is(err, webhook.ErrTime) && !errors.Is(err, webhook.ErrSignature) {
				t.Fatalf("Verify = %v", err)
			}
			return
		}
		// What is believed is what one of the signers says of the same message.
		var seconds int64
		if _, err := fmt.Sscan(timestamp, &seconds); err != nil {
			t.Fatal(err)
		}
		for _, s := range s {
			h := http.Header{}
			if err := s.Sign(h, id, time.Unix(seconds, 0), body); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(signature, h.Get("webhook-signature")) {
				return
			}
		}
		t.Fatalf("%q is believed, which nobody signed", signature)
	})
}
