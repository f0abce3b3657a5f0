package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/embed"
	"github.com/skybus-io/skybus/kv"
)

func TestReport(t *testing.T) {
	t.Parallel()
	answer := bus.Errorf(bus.PermissionDenied, "kv: nats://joe:hunter2@x is not for you").With("shelf", "top")
	for _, tt := range []struct {
		name       string
		err        error
		code       int
		text, json string // json is looked for without spaces
	}{
		{"nothing", nil, exitOK, "", ""},
		{
			"packages", fmt.Errorf("route: %w", fmt.Errorf("kv: bus: open %q: gateway: %w", "x", nats.ErrNoServers)), exitFailed,
			"skybus: open \"x\": gateway: no servers available for connection\nhint: --server, NATS_URL or a NATS context (--context) name another server\n", `"code":"unavailable"`,
		},
		{"code in front", bus.Errorf(bus.NotFound, "there is no route"), exitFailed, "skybus: there is no route\n", `"code":"not_found","message":"there is no route"`},
		{"code inside", fmt.Errorf("start: %w", bus.Errorf(bus.NotFound, "there is no route")), exitFailed, "skybus: start: there is no route\n", `"code":"not_found"`},
		{
			"an answer stays as it is", &answerError{answer}, exitFailed,
			"skybus: permission_denied: kv: nats://[redacted]@x is not for you\n", `"message":"kv: nats://[redacted]@x is not for you","details":{"shelf":"top"}`,
		},
		{"usage", usagef("want %d", 1), exitUsage, "skybus: want 1\nhint: `skybus test it --help` tells how it is used\n", `"code":"invalid_argument"`},
		{"outer hint", withHint(withHint(errors.New("x"), "inner"), "outer %d", 1), exitFailed, "skybus: x\nhint: outer 1\n", `"hint":"outer1"`},
		{"interrupted", fmt.Errorf("call: %w", context.Canceled), exitFailed, "skybus: interrupted\n", `"code":"canceled"`},
		{
			"too late", fmt.Errorf("connect: %w", context.DeadlineExceeded), exitFailed,
			"skybus: connect: context deadline exceeded\nhint: --timeout waits longer than 5s\n", `"code":"deadline_exceeded"`,
		},
		{"login", nats.ErrAuthorization, exitFailed, "skybus: authorization violation\nhint: --creds FILE, NATS_CREDS or a NATS context (--context) log in\n", `"code":"unauthenticated"`},
		{"in use", serverHint(fmt.Errorf("embed: %w", embed.ErrDirInUse)), exitFailed, "skybus: data directory is in use\nhint: --data DIR names another directory\n", `"code":"failed_precondition"`},
		{"key", &kv.KeyError{Op: "get", Bucket: "b", Key: "k", Err: kv.ErrNotFound}, exitFailed, "skybus: get \"k\" in \"b\": not found\n", `"code":"not_found"`},
	} {
		for _, format := range []outputFormat{formatTable, formatJSON} {
			app, out := newApp(format)
			app.command, app.Timeout = "test it", 5e9
			if code := app.report(tt.err); code != tt.code {
				t.Errorf("%s: exit %d, want %d", tt.name, code, tt.code)
			}
			if got := out.String(); format == formatTable && got != tt.text {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.text)
			}
			if got := strings.NewReplacer(" ", "", "\n", "").Replace(out.String()); format == formatJSON && !strings.Contains(got, strings.ReplaceAll(tt.json, " ", "")) {
				t.Errorf("%s as JSON: %s, want %s", tt.name, got, tt.json)
			}
		}
	}
}
