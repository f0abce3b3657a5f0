package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

func TestLogHidesSecrets(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	const canary = "hunter2"
	withUserinfo, err := url.Parse("nats://joe:" + canary + "@host:4222/path")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []bool{true, false} {
		var out strings.Builder
		log := slog.New(newLogHandler(&out, text, levelTrace)).With("nats_password", canary)
		log.Info("connect nats://joe:"+canary+"@a:1,nats://ann:p@"+canary+"@b:2",
			"url", withUserinfo, "error", fmt.Errorf("dial: %w", errors.New("tls://"+canary+"@host: "+string(seed))),
			"list", []string{string(seed)}, "header", http.Header{"Set-Cookie": {canary}, "Accept": {"kept"}},
			"nats", nats.Header{"Authorization": {canary}}, "jwt", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln")
		for _, key := range []string{"Authorization", "cookie", "api_token", "client-secret", "creds", "seed"} {
			log.Info("by key", slog.String(key, canary))
		}
		log.WithGroup("credentials").Info("in a group", "inner", canary)
		log.Info("group as a value", slog.Group("login", slog.String("password", canary)))
		got := out.String()
		for _, secret := range []string{canary, string(seed), "eyJhbGci"} {
			if strings.Contains(got, secret) {
				t.Errorf("text=%t: %q is in\n%s", text, secret, got)
			}
		}
		for _, kept := range []string{"host:4222/path", "@a:1", "@b:2", "dial: tls://", "kept", "in a group"} {
			if !strings.Contains(got, kept) {
				t.Errorf("text=%t: %q is gone from\n%s", text, kept, got)
			}
		}
	}
}

func TestErrorsHideSecrets(t *testing.T) {
	t.Parallel()
	code, _, stderr := runs(t.Context(), &connectCLI{}, "connect", "--dial", "-s", "nats://joe:hunter2@127.0.0.1:1", "--log-level", "trace")
	if code != exitFailed || strings.Contains(stderr, "hunter2") || !strings.Contains(stderr, "127.0.0.1:1") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}
