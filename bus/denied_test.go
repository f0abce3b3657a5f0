package bus_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// restricted is a server with an admin, and a user who may publish to may.> and api, and hear _INBOX.>.
func restricted(t testing.TB, api ...string) *bustest.Node {
	t.Helper()
	return bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "x"},
			{Username: "bob", Password: "x", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: append([]string{"may.>"}, api...)},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>", "may.>"}},
			}},
		}
	}))
}

func as(user string) bus.Config {
	return bus.Config{Options: []nats.Option{nats.UserInfo(user, "x")}}
}

// wantDenied wants err to say that subject is refused.
func wantDenied(t testing.TB, err error, subject string) {
	t.Helper()
	wantCode(t, err, bus.PermissionDenied)
	if err != nil && bus.AsError(err).Details["subject"] != subject {
		t.Errorf("details %v: want the subject %q", bus.AsError(err).Details, subject)
	}
}

func TestRequestDenied(t *testing.T) {
	t.Parallel()
	s := restricted(t)
	bob := connect(t, s, as("bob"))
	for range 3 {
		began := time.Now()
		_, err := request(t, bob, patience, &nats.Msg{Subject: "secret.x"})
		wantDenied(t, err, "secret.x")
		if took := time.Since(began); took > soon {
			t.Errorf("it took %v", took)
		}
		if !strings.Contains(err.Error(), `user "bob" may not publish to "secret.x"`) {
			t.Errorf("unclear: %v", err)
		}
	}
	_, err := request(t, bob, patience, &nats.Msg{Subject: "may.x"})
	if !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("a request that is allowed: %v", err)
	}
}

// A refusal ends the requests to its subject and no others, also when many wait.
func TestDeniedIsNotMisattributed(t *testing.T) {
	t.Parallel()
	s := restricted(t)
	admin, bob := connect(t, s, as("admin")), connect(t, s, as("bob"))
	release := make(chan struct{})
	subscribe(t, admin, "may.slow", func(m *nats.Msg) {
		go func() {
			bustest.Hold(t, release)
			_ = m.Respond([]byte("done"))
		}()
	})
	subscribe(t, admin, "may.probe", func(m *nats.Msg) { _ = m.Respond(nil) })
	var slow, refused sync.WaitGroup
	for range 20 {
		slow.Go(func() {
			if reply, err := request(t, bob, patience, &nats.Msg{Subject: "may.slow"}); err != nil || string(reply.Data) != "done" {
				t.Errorf("an allowed request: %v", err)
			}
		})
		refused.Go(func() {
			_, err := request(t, bob, patience, &nats.Msg{Subject: "may"}) // begins as the allowed ones do
			wantDenied(t, err, "may")
		})
	}
	refused.Wait()
	// Subscribing to what others publish to is refused too, and is none of theirs.
	if _, err := bob.NATS().Subscribe("may.slow.*.x.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.NATS().Subscribe("secret", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := bob.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := request(t, bob, patience, &nats.Msg{Subject: "may.probe"}); err != nil {
		t.Error(err)
	}
	close(release)
	slow.Wait()
}

// A connection whose inboxes are refused says so, instead of letting every request run out of time.
func TestInboxDenied(t *testing.T) {
	t.Parallel()
	s := restricted(t)
	cfg := as("bob")
	cfg.Options = append(cfg.Options, nats.CustomInboxPrefix("_MY"))
	bob := connect(t, s, cfg)
	subscribe(t, connect(t, s, as("admin")), "may.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) })
	for range 2 {
		began := time.Now()
		_, err := request(t, bob, patience, &nats.Msg{Subject: "may.echo"})
		wantCode(t, err, bus.PermissionDenied)
		if err == nil || !strings.Contains(err.Error(), "inbox prefix") || time.Since(began) > soon {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	}
}

// What may happen with one login says nothing about the next connection, also where the client tells of that late: here it
// tells of nothing until the server has refused a request on the new connection.
func TestDeniedAfterReconnect(t *testing.T) {
	t.Parallel()
	allow := []string{"may.>"}
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "x"},
			{Username: "bob", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: allow}}},
		}
	}))
	cfg := as("bob")
	busy, free := make(chan struct{}), make(chan struct{})
	hold, release := sync.OnceFunc(func() { close(busy); <-free }), sync.OnceFunc(func() { close(free) })
	defer release()
	cfg.Options = append(cfg.Options, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { hold() }))
	admin, bob := connect(t, s, as("admin")), connect(t, s, cfg)
	subscribe(t, admin, "may.echo", func(m *nats.Msg) { _ = m.Respond(nil) })
	if _, err := request(t, bob, patience, &nats.Msg{Subject: "may.echo"}); err != nil {
		t.Fatal(err)
	}
	if err := bob.Publish(&nats.Msg{Subject: "secret"}); err != nil {
		t.Fatal(err)
	}
	bustest.Receive(t, "refusal", busy)
	allow = []string{"other"}
	stopServer(t, s, bob) // what is sent before bob has noticed is lost
	s.Start(t)
	began, done := time.Now(), make(chan error, 1)
	go func() {
		_, err := request(t, bob, patience, &nats.Msg{Subject: "may.echo"})
		done <- err
	}()
	bustest.Eventually(t, "refusal on the new connection", func() bool {
		err := bob.NATS().LastError()
		return err != nil && strings.Contains(err.Error(), "may.echo")
	})
	release()
	wantDenied(t, bustest.Receive(t, "answer", done), "may.echo")
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
}

// A login without rights is told at once, and not after everything was tried for 30 s.
func TestOpenStreamDenied(t *testing.T) {
	t.Parallel()
	cfg := jetstream.StreamConfig{Name: "WIDGETS", Subjects: []string{"widgets"}}
	open := func(t *testing.T, api ...string) error {
		t.Helper()
		bob := connect(t, restricted(t, api...), as("bob"))
		began := time.Now()
		_, err := bob.OpenStream(t.Context(), cfg)
		if took := time.Since(began); took > soon {
			t.Errorf("it took %v", took)
		}
		return err
	}
	wantDenied(t, open(t), "$JS.API.STREAM.INFO.WIDGETS")
	err := open(t, "$JS.API.STREAM.INFO.WIDGETS")
	wantDenied(t, err, "$JS.API.STREAM.CREATE.WIDGETS")
	if !strings.Contains(err.Error(), `"WIDGETS"`) || !strings.Contains(err.Error(), "skybus up") {
		t.Errorf("unclear: %v", err)
	}
	if err := open(t, "$JS.API.STREAM.INFO.WIDGETS", "$JS.API.STREAM.CREATE.WIDGETS"); err != nil {
		t.Errorf("without the right to ask for the account's limits: %v", err)
	}
}

// Flush within Permitted finds every refused subscription.
func TestFlushFindsDeniedSubscription(t *testing.T) {
	t.Parallel()
	s := restricted(t)
	bob := connect(t, s, as("bob"))
	for i, subject := range []string{"may.a", "secret.a", "may.b", "secret.b", "secret.a"} {
		err := bob.Permitted(t.Context(), bus.Access{Subscribe: []string{subject}}, func(ctx context.Context) error {
			sub, err := bob.NATS().QueueSubscribe(subject, "q", func(*nats.Msg) {})
			if err != nil {
				return err
			}
			defer func() { _ = sub.Unsubscribe() }()
			return bob.Flush(ctx)
		})
		if strings.HasPrefix(subject, "may") {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
			continue
		}
		wantDenied(t, err, subject)
	}
}

func TestNotifyDenied(t *testing.T) {
	t.Parallel()
	bob := connect(t, restricted(t), as("bob"))
	told, other := make(chan *bus.Error, 1), make(chan *bus.Error, 1)
	stop := bob.NotifyDenied(told, bus.Access{Publish: []string{"secret"}})
	defer bob.NotifyDenied(other, bus.Access{Subscribe: []string{"secret"}, Publish: []string{"may.x"}})()
	for range 3 { // more than fit
		if err := bob.Publish(&nats.Msg{Subject: "secret"}); err != nil {
			t.Fatal(err)
		}
	}
	wantDenied(t, bustest.Receive(t, "refusal", told), "secret")
	stop()
	if err := bob.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(other) > 0 {
		t.Errorf("somebody else was told of %v", <-other)
	}
	if n := bob.AsyncErrors(); n != 3 {
		t.Errorf("%d errors were counted, want 3", n)
	}
}

// A one-way message that is refused is logged; what ended a call is the call's business.
func TestDeniedPublishIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer // the client calls its handlers one at a time
	cfg := as("bob")
	cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
	bob := connect(t, restricted(t), cfg)
	_, err := request(t, bob, patience, &nats.Msg{Subject: "secret.call"})
	wantDenied(t, err, "secret.call")
	if err := bob.Publish(&nats.Msg{Subject: "secret.oneway"}); err != nil {
		t.Fatal(err)
	}
	if err := bob.Close(); err != nil {
		t.Fatal(err)
	}
	if log := out.String(); !strings.Contains(log, "secret.oneway") || strings.Contains(log, "secret.call") {
		t.Errorf("the log says\n%s", log)
	}
}
