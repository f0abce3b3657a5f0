package config_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/config/file"
)

// Scopes, from the widest to the narrowest.
var (
	all     = config.Scope{}                                         //nolint:gochecknoglobals // a constant
	shop    = config.Scope{Service: "shop"}                          //nolint:gochecknoglobals // a constant
	version = config.Scope{Service: "shop", Version: "1.3.0-rc.1+b"} //nolint:gochecknoglobals // a constant
)

func TestPrecedence(t *testing.T) {
	t.Parallel()
	lower, err := file.Parse([]byte("all: {color: file}\nservices: {shop: {color: file of the service}}"))
	if err != nil {
		t.Fatal(err)
	}
	env := config.Environment([]string{"SKYBUS_COLOR=environment", "COLOR=none", "SKYBUS_EMPTY="})
	v, w := start(t, config.Config{Layers: []config.Layer{env, lower}})
	read := func(s config.Scope) string { return config.Get(v, s, "color", "default") }
	if got := read(version); got != "environment" {
		t.Errorf("with nothing in the bucket: %q", got)
	}
	steps := []struct {
		at   config.Scope
		want [4]string // of the version, of another, of the service, of another service
	}{
		{all, [4]string{"all", "all", "all", "all"}},
		{shop, [4]string{"service", "service", "service", "all"}},
		{version, [4]string{"version", "service", "service", "all"}},
	}
	readers := [4]config.Scope{version, {Service: "shop", Version: "1.2.0"}, shop, {Service: "till", Version: "1.3.0"}}
	check := func(want [4]string) {
		t.Helper()
		for i, s := range readers {
			becomes(t, v, s, "color", want[i])
			raw, ok := v.Setting(s.Service, s.Version, "color")
			if got := string(raw); got != `"`+want[i]+`"` || !ok {
				t.Errorf("Setting of %v is %s, %v, want %q", s, got, ok, want[i])
			}
		}
	}
	for i, name := range []string{"all", "service", "version"} {
		w.put(steps[i].at, "color", name)
		check(steps[i].want)
	}
	for i := 2; i > 0; i-- {
		w.remove(steps[i].at, "color")
		check(steps[i-1].want)
	}
	w.remove(all, "color")
	check([4]string{"environment", "environment", "environment", "environment"})

	bare := open(t, connect(t, bus.Config{InProcess: bustest.Server(t)}), config.Config{Layers: []config.Layer{lower}})
	for s, want := range map[config.Scope]string{all: "file", version: "file of the service", {Service: "till"}: "file"} {
		if got := config.Get(bare, s, "color", ""); got != want {
			t.Errorf("%v from the file is %q, want %q", s, got, want)
		}
	}
	if got := config.Get(bare, all, "empty", "default"); got != "default" {
		t.Errorf("set nowhere: %q", got)
	}
	if raw, ok := bare.Setting("shop", "", "empty"); ok {
		t.Errorf("Setting of nothing is %s", raw)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SKYBUS_CLIENT_TIMEOUT_TOTAL", "7s")
	v, err := config.Open(t.Context(), connect(t, bus.Config{InProcess: bustest.Server(t)}), config.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	if got := config.Get(v, shop, config.ClientTimeoutTotal, time.Second); got != 7*time.Second {
		t.Errorf("by default the environment is not read: %v", got)
	}
	e := config.Environment([]string{"SKYBUS_MAX_IN_FLIGHT=5", "SKYBUS_BAD=\xff", "SKYBUS_TEXT=a=b"})
	for key, want := range map[string]string{"max.in-flight": "5", "Max_In.Flight": "5", "bad": "", "text": `"a=b"`, strings.Repeat("x", 200): ""} {
		if raw, ok := e.Setting("", "", key); string(raw) != want || ok != (want != "") {
			t.Errorf("%q is %s, %v, want %s", key, raw, ok, want)
		}
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	type limits struct {
		Max  int             `json:"max"`
		Wait config.Duration `json:"wait"`
	}
	v, w := start(t, config.Config{})
	w.put(all, "int", "42\n")
	w.put(all, "bool", "true")
	w.put(all, "text", " plain text ")
	w.put(all, "quoted", `"quoted text "`)
	w.put(all, "number.text", "1.10")
	w.put(all, "duration", "1.5s")
	w.put(all, "limits", `{"max": 3, "wait": "2m"}`)
	w.put(all, "canary", `{"1.2.0": 95, "1.3.0": 5}`)
	w.put(all, "last", "1")
	becomes(t, v, shop, "last", 1)
	for _, c := range []struct{ got, want any }{
		{config.Get(v, shop, "int", 0), 42},
		{config.Get(v, shop, "int", 0.5), 42.0},
		{config.Get(v, shop, "int", "x"), "42"},
		{config.Get(v, shop, "bool", false), true},
		{config.Get(v, shop, "bool", "x"), "true"},
		{config.Get(v, shop, "text", ""), "plain text"},
		{config.Get(v, shop, "quoted", ""), "quoted text "},
		{config.Get(v, shop, "number.text", ""), "1.10"},
		{config.Get(v, shop, "duration", time.Minute), 1500 * time.Millisecond},
		{config.Get(v, shop, "duration", config.Duration(0)), config.Duration(1500 * time.Millisecond)},
		{config.Get(v, shop, "limits", limits{}), limits{3, config.Duration(2 * time.Minute)}},
		{config.Get(v, shop, "canary", map[string]int(nil)), map[string]int{"1.2.0": 95, "1.3.0": 5}},
		{config.Get(v, shop, "none", 7), 7},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Error(diff)
		}
	}
	if n := v.Rejected(); n != 0 {
		t.Errorf("%d rejected", n)
	}
	// What is no value of the type.
	for i, got := range []bool{
		config.Get(v, shop, "text", -1) == -1,
		config.Get(v, shop, "int", time.Hour) == time.Hour, // of what unit?
		config.Get(v, shop, "quoted", time.Hour) == time.Hour,
		config.Get(v, shop, "limits", "x") == "x",
	} {
		if !got {
			t.Errorf("case %d is not the default", i)
		}
	}
	if n := v.Rejected(); n != 4 {
		t.Errorf("%d rejected, want 4", n)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Duration{`"1h"`: config.Duration(time.Hour), `0`: 0, `"0"`: 0} {
		var d config.Duration
		if err := d.UnmarshalJSON([]byte(text)); err != nil || d != want {
			t.Errorf("%s is %v, %v", text, d, err)
		}
		back, err := d.MarshalJSON()
		var again config.Duration
		if err != nil || again.UnmarshalJSON(back) != nil || again != d {
			t.Errorf("%s becomes %s, %v", text, back, err)
		}
	}
	for _, bad := range []string{`5`, `"5"`, `"x"`, `{}`, ``} {
		var d config.Duration
		if err := d.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is %v", bad, d)
		}
	}
}

// A bad value is as if it had not been written, is counted and logged once, and not told.
func TestLastGood(t *testing.T) {
	t.Parallel()
	var log book
	v, w := start(t, config.Config{Logger: log.logger()})
	w.put(all, "wait", "1s")
	w.put(shop, "wait", "2s")
	becomes(t, v, shop, "wait", 2*time.Second)
	becomes(t, v, version, "wait", 2*time.Second)
	bad := func(at config.Scope, key, value string) {
		t.Helper()
		before := v.Rejected()
		w.put(at, key, value)
		bustest.Eventually(t, "the value to be rejected", func() bool { return v.Rejected() == before+1 })
	}
	bad(shop, "wait", "secret")
	bad(shop, "wait", "null")
	bad(shop, "wait", "{}")
	bad(shop, "wait", "\xff secret")
	if got := config.Get(v, shop, "wait", 0*time.Second); got != 2*time.Second {
		t.Errorf("after bad values: %v", got)
	}
	bad(version, "wait", "secret") // the version never had a good one
	if got := config.Get(v, version, "wait", 0*time.Second); got != 2*time.Second {
		t.Errorf("with a bad value of the version: %v", got)
	}
	w.put(shop, "wait", "3s")
	becomes(t, v, version, "wait", 3*time.Second)
	becomes(t, v, shop, "wait", 3*time.Second)
	w.remove(shop, "wait")
	becomes(t, v, shop, "wait", time.Second)
	bad(shop, "wait", "secret") // what was good is forgotten with the removal
	if got := config.Get(v, shop, "wait", 0*time.Second); got != time.Second {
		t.Errorf("after removal and a bad value: %v", got)
	}
	warned := func() int { return strings.Count(log.String(), "level=WARN") }
	bustest.Eventually(t, "the last one to be logged", func() bool { return warned() >= 6 }) // it is counted first
	if n := warned(); n != 6 || strings.Contains(log.String(), "secret") {
		t.Errorf("%d warnings, want 6:\n%s", n, log.String())
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	v, w := start(t, config.Config{})
	small := config.Check(func(n int) error {
		if n > 10 {
			return errors.New("too much")
		}
		return nil
	})
	told := watched(t, v, shop, "max", 5, small)
	if got := bustest.Receive(t, "the default", told); got != 5 {
		t.Errorf("told %d", got)
	}
	w.put(shop, "max", "7")
	if got := bustest.Receive(t, "the value", told); got != 7 {
		t.Errorf("told %d", got)
	}
	w.put(shop, "max", "70")
	bustest.Eventually(t, "the value to be rejected", func() bool { return v.Rejected() == 1 })
	if got := config.Get(v, shop, "max", 5, small); got != 7 {
		t.Errorf("with the check %d", got)
	}
	if got := config.Get(v, shop, "max", 5); got != 70 {
		t.Errorf("without a check %d", got)
	}
	w.put(shop, "max", "8")
	if got := bustest.Receive(t, "the next value", told); got != 8 {
		t.Errorf("told %d", got)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	v, w := start(t, config.Config{})
	told := watched(t, v, version, "x", "default")
	expect := func(want string) {
		t.Helper()
		if got := bustest.Receive(t, want, told); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	expect("default")
	w.put(all, "x", "all")
	expect("all")
	w.put(version, "x", "version")
	expect("version")
	w.put(shop, "x", "hidden")
	w.put(version, "x", `"version"`) // the same value
	w.put(all, "y", "other")
	w.remove(version, "x")
	expect("hidden")
	w.remove(shop, "x")
	expect("all")
	w.remove(all, "x")
	expect("default")

	// A watch ends with its Values.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range config.Watch(t.Context(), v, all, "x", "") {
		}
	}()
	for range 2 {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	bustest.Receive(t, "the watch to end", ended)
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	a := connect(t, bus.Config{InProcess: server, Namespace: "a.dev"})
	b := connect(t, bus.Config{InProcess: server, Namespace: "a.dev2"})
	va, vb := open(t, a, config.Config{}), open(t, b, config.Config{})
	newWriter(t, a).put(shop, "x", "of a")
	becomes(t, va, shop, "x", "of a")
	newWriter(t, b).put(all, "y", "of b")
	becomes(t, vb, all, "y", "of b")
	if raw, ok := vb.Setting("shop", "", "x"); ok {
		t.Errorf("the other namespace sees %s", raw)
	}
	if raw, ok := va.Setting("", "", "y"); ok {
		t.Errorf("the other namespace sees %s", raw)
	}
}

// Keys that anybody may have written are left out.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	var log book
	v, w := start(t, config.Config{Logger: log.logger()})
	for _, key := range []string{"default.dev.shop", "default.dev.shop._", "default.dev._.1_0_0.x", "default.dev.shop.v1.x", "default.dev.shop._.a.b.c.d.e.f.g.h.i"} {
		if _, err := w.table.Put(t.Context(), key, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	w.put(all, "last", "1")
	becomes(t, v, all, "last", 1)
	if n := strings.Count(log.String(), "level=WARN"); n != 5 {
		t.Errorf("%d warnings, want 5:\n%s", n, log.String())
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	conn := connect(t, bus.Config{InProcess: bustest.Server(t)})
	if _, err := config.Open(t.Context(), conn, config.Config{Bind: true}); !errors.Is(err, kv.ErrNoBucket) {
		t.Errorf("Open without a bucket: %v", err)
	}
	newWriter(t, conn).put(all, "x", "1")
	if v := open(t, conn, config.Config{Bind: true}); config.Get(v, all, "x", 0) != 1 {
		t.Error("what there was is not there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := config.Open(ctx, conn, config.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
}

// What skybus itself follows.
func TestFollow(t *testing.T) {
	t.Parallel()
	v, w := start(t, config.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	registered := make(chan bool, 10)
	go func() {
		config.FollowLogLevel(ctx, v, shop, &level)
		ended <- struct{}{}
	}()
	go func() {
		config.FollowRegister(ctx, v, shop, true, func(r bool) { registered <- r })
		ended <- struct{}{}
	}()
	if !bustest.Receive(t, "the default", registered) {
		t.Error("unregistered by default")
	}
	levelBecomes := func(want slog.Level) {
		t.Helper()
		bustest.Eventually(t, "level "+want.String(), func() bool { return level.Level() == want })
	}
	w.put(shop, config.LogLevel, "debug")
	levelBecomes(slog.LevelDebug)
	w.put(shop, config.LogLevel, "loud")
	w.put(shop, config.ServiceRegister, "false")
	if bustest.Receive(t, "service.register", registered) {
		t.Error("registered")
	}
	levelBecomes(slog.LevelDebug)
	w.remove(shop, config.LogLevel)
	levelBecomes(slog.LevelWarn)
	w.remove(shop, config.ServiceRegister)
	if !bustest.Receive(t, "the default", registered) {
		t.Error("unregistered")
	}
	cancel()
	bustest.Receive(t, "the end", ended)
	bustest.Receive(t, "the end", ended)
}
