package scheduler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// A new timer whose answer was lost is known again while it is stored and while it is delivered: it must not be stored, and fire, once more.
func TestStoredBefore(t *testing.T) {
	t.Parallel()
	r := newRetryRig(t, 0)
	sh := r.shards[0]
	if _, err := r.Create(t.Context(), Spec{ID: "t0", After: time.Hour, Target: Target{URI: "https://example.com/"}}); err != nil {
		t.Fatal(err)
	}
	m, err := r.pending(t.Context(), sh, "t0")
	if err != nil {
		t.Fatal(err)
	}
	msg := &nats.Msg{Subject: m.subject, Data: m.body, Header: nats.Header{headerExpectSeq: {"0"}}}
	known := func(want bool, when string) {
		t.Helper()
		if seq, ok, err := r.storedBefore(t.Context(), sh, msg); err != nil || ok != want || ok == (seq == 0) {
			t.Errorf("%s: %d, %t, %v, want %t", when, seq, ok, err, want)
		}
	}
	known(true, "pending")
	other := &nats.Msg{Subject: m.subject, Data: append([]byte("x"), m.body...), Header: msg.Header}
	if _, ok, err := r.storedBefore(t.Context(), sh, other); ok || err != nil {
		t.Errorf("another life of the id: %t, %v", ok, err)
	}
	if err := r.storeDue(t.Context(), sh.dueMessage(m, time.Now())); err != nil {
		t.Fatal(err)
	}
	known(true, "due")
	if err := sh.stream.Purge(t.Context(), jetstream.WithPurgeSubject(sh.all(kindDue))); err != nil {
		t.Fatal(err)
	}
	known(false, "delivered")
}

// Who waits for a new timer as the connection comes back, and then no longer, has canceled nothing.
func TestLostAnswerIsNotCanceled(t *testing.T) {
	t.Parallel()
	c, _ := workbench(t)
	s, sh := c.s, c.s.shards[0]
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.epoch.Store(&over)
	ctx, cancel := context.WithTimeout(t.Context(), storePause/2)
	defer cancel()
	_, err := s.store(ctx, sh, &nats.Msg{Subject: sh.subject(kindPending, "a"), Header: nats.Header{headerExpectSeq: {"0"}}, Data: []byte("x")})
	if bus.CodeOf(err) != bus.DeadlineExceeded || errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %s", err, bus.DeadlineExceeded)
	}
}

// Where there is no room it is said of what, so that the right limit is raised.
func TestWhatIsFull(t *testing.T) {
	t.Parallel()
	for code, want := range map[jetstream.ErrorCode]string{
		jscode.StreamFull:  "the stream of the timers is full",
		jscode.AccountFull: "the store of the account is full",
		jscode.ServerFull:  "the store of the servers is full",
		jscode.StorageFull: "the store of the servers is full",
	} {
		err := storeError(&jetstream.APIError{Code: 503, ErrorCode: code})
		if e := bus.AsError(err); e.HTTPStatus() != 507 || e.Code != bus.ResourceExhausted || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: status %d, %v, want %q", code, e.HTTPStatus(), err, want)
		}
	}
}
