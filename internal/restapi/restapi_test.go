package restapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
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
		{fmt.Errorf("read: %w", context.Canceled), 503, bus.Unavailable, 0},
		{bus.Errorf(bus.Canceled, "no"), 503, bus.Unavailable, 0},
		{bus.Wrap(bus.DeadlineExceeded, "no", context.Canceled), 504, bus.DeadlineExceeded, 0},
		{errors.New("no"), 500, bus.Unknown, 0},
	} {
		p := restapi.Problem(t.Context(), tt.err)
		if p.Status != tt.status || p.Code != string(tt.code) || len(p.Errors) != tt.fields || p.Details["field"] != "" {
			t.Errorf("%v: %+v", tt.err, p)
		}
	}
	if (&restapi.InputError{}).Err() != nil {
		t.Error("nothing is wrong, and it is an error")
	}
}

// Only the request itself tells that its client has gone, and that says nothing of what was wrong before.
func TestClientHasGone(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	t.Cleanup(cancel)
	lost := bus.Wrap(bus.DeadlineExceeded, "the answer was lost", context.Canceled)
	for _, tt := range []struct {
		ctx    context.Context //nolint:containedctx // of a case
		err    error
		status int
	}{
		{gone, fmt.Errorf("read: %w", context.Canceled), 499},
		{gone, lost, 499},
		{gone, bus.Errorf(bus.NotFound, "no"), 404},
		{t.Context(), lost, 504},
		{late, fmt.Errorf("read: %w", context.Canceled), 503},
		{late, fmt.Errorf("read: %w", context.DeadlineExceeded), 504},
	} {
		if p := restapi.Problem(tt.ctx, tt.err); p.Status != tt.status {
			t.Errorf("%v of a request that %v: %+v, want %d", tt.err, tt.ctx.Err(), p, tt.status)
		}
	}
}

// A fault that nobody knows the reason of is in the log by default, what is known to happen only where somebody looks for it.
func TestFaultsAreLogged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("a bug"), "level=WARN"},
		{bus.Errorf(bus.Internal, "a bug"), "level=WARN"},
		{bus.Errorf(bus.Unavailable, "no server"), "level=DEBUG"},
		{bus.Errorf(bus.NotFound, "no timer"), ""},
	} {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w := httptest.NewRecorder()
		restapi.Fail(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), log, tt.err)
		if got := out.String(); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%v: the log has %q, want %q", tt.err, got, tt.want)
		}
	}
}
