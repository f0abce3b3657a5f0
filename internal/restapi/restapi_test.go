package restapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/restapi"
)

func TestDoor(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	door, err := restapi.NewDoor(restapi.Config{Tokens: []string{token}, MaxInFlight: 1, Changes: "things"})
	if err != nil {
		t.Fatal(err)
	}
	enter := func(auth, site string) (*httptest.ResponseRecorder, func(), error) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header.Set("Authorization", auth)
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		leave, err := door.Enter(w, r)
		return w, leave, err
	}
	if w, _, err := enter("Bearer fedcba9876543210", "none"); bus.CodeOf(err) != bus.Unauthenticated || w.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("another token: %v, %v", err, w.Header())
	}
	if _, _, err := enter("Bearer "+token, "cross-site"); bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("a page of another site: %v", err)
	}
	_, leave, err := enter("Bearer "+token, "none")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := enter("Bearer "+token, "none"); bus.CodeOf(err) != bus.Unavailable {
		t.Errorf("a second one at once: %v", err)
	}
	leave()
	if _, _, err := enter("Bearer "+token, "none"); err != nil {
		t.Errorf("after the first has left: %v", err)
	}
}

func TestNewDoorRefuses(t *testing.T) {
	t.Parallel()
	for _, cfg := range []restapi.Config{{Tokens: []string{"short"}}, {TrustedOrigins: []string{"example.org/path"}}} {
		if _, err := restapi.NewDoor(cfg); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestProblem(t *testing.T) {
	t.Parallel()
	unknown := &restapi.InputError{Unknown: true}
	unknown.Wrong("a", "there is no such field")
	wrong := &restapi.InputError{}
	for i := range 30 {
		wrong.Wrong(fmt.Sprintf("f%d", i), "want a number")
	}
	for _, tt := range []struct {
		err    error
		status int
		code   bus.Code
		fields int
	}{
		{unknown, 400, bus.InvalidArgument, 1},
		{wrong, 422, bus.InvalidArgument, 20},
		{bus.Errorf(bus.InvalidArgument, "no").With("field", "id"), 422, bus.InvalidArgument, 1},
		{bus.Errorf(bus.FailedPrecondition, "no"), 409, bus.FailedPrecondition, 0},
		{bus.Errorf(bus.ResourceExhausted, "no"), 507, bus.ResourceExhausted, 0},
		{bus.Errorf(bus.NotFound, "no"), 404, bus.NotFound, 0},
		{fmt.Errorf("read: %w", context.Canceled), 499, bus.Canceled, 0},
		{errors.New("no"), 500, bus.Unknown, 0},
	} {
		p := restapi.Problem(tt.err)
		if p.Status != tt.status || p.Code != string(tt.code) || len(p.Errors) != tt.fields || p.Details["field"] != "" {
			t.Errorf("%v: %+v", tt.err, p)
		}
	}
	if (&restapi.InputError{}).Err() != nil {
		t.Error("nothing is wrong, and it is an error")
	}
}
