package httpx_test

import (
	"net/http/httptest"
	"testing"

	"github.com/skybus-io/skybus/internal/httpx"
)

func TestProblem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		problem httpx.Problem
		want    string
	}{
		{
			httpx.Problem{Status: 422, Detail: "no good", Code: "invalid_argument", Errors: []httpx.FieldError{{Field: "after", Message: "late"}}},
			`{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"no good","code":"invalid_argument",` +
				`"errors":[{"field":"after","message":"late"}]}` + "\n",
		},
		{
			httpx.Problem{Status: 499, Code: "canceled", RequestID: "r"},
			`{"type":"about:blank","title":"Client Closed Request","status":499,"detail":"","code":"canceled","request_id":"r"}` + "\n",
		},
	} {
		w := httptest.NewRecorder()
		tt.problem.Write(w)
		if w.Code != tt.problem.Status || w.Body.String() != tt.want {
			t.Errorf("%d %s, want %s", w.Code, w.Body, tt.want)
		}
		if w.Header().Get("Content-Type") != httpx.TypeProblem || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", w.Header())
		}
	}
}
