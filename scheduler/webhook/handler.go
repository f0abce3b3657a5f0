package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// VerifyRequest reads the body of r, at most maxBody bytes (0 means 1 MiB), checks it as [Verifier.Verify] does, and returns it. Handlers
// can read it once more from r.Body. Other errors than those of Verify are [ErrTooLarge] and that of reading.
func (v *Verifier) VerifyRequest(r *http.Request, maxBody int64) ([]byte, error) {
	if maxBody <= 0 {
		maxBody = defaultMaxBody
	}
	if r.ContentLength > maxBody {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, r.ContentLength, maxBody)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("webhook: read body: %w", err)
	}
	if int64(len(body)) > maxBody {
		return nil, fmt.Errorf("%w: at most %d bytes", ErrTooLarge, maxBody)
	}
	if err := v.Verify(r.Header, body); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// Handler passes to next only requests that v believes, with their whole body read; bodies have at most maxBody bytes (0 means
// 1 MiB). It answers others itself: 413 for a longer body, 401 where no signature fits, 400 for the rest. How long a client
// may take to send its body is for the server's ReadTimeout to say.
func Handler(v *Verifier, maxBody int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := v.VerifyRequest(r, maxBody)
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.Is(err, ErrTooLarge):
			w.Header().Set("Connection", "close") // lest the server reads the rest
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		case errors.Is(err, ErrSignature):
			http.Error(w, err.Error(), http.StatusUnauthorized)
		default:
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
}
