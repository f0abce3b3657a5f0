package config_test

import (
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/config"
)

var ns = bus.Namespace{App: "default", Env: "dev"} //nolint:gochecknoglobals // a constant

func TestBucketKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scope config.Scope
		key   string
		want  string // empty when it is refused
	}{
		{all, "log.level", "default.dev._._.log.level"},
		{shop, "a", "default.dev.shop._.a"},
		{version, "a.b-c.D_e", "default.dev.shop.1_3_0-rc_1=b.a.b-c.D_e"},
		{config.Scope{Version: "1.0.0"}, "a", ""},
		{config.Scope{Service: "_"}, "a", ""},
		{config.Scope{Service: "a.b"}, "a", ""},
		{config.Scope{Service: "shop", Version: "v1"}, "a", ""},
		{all, "", ""},
		{all, "a..b", ""},
		{all, "a.*", ""},
		{all, "a b", ""},
		{all, "1.2.3.4.5.6.7.8", "default.dev._._.1.2.3.4.5.6.7.8"},
		{all, "1.2.3.4.5.6.7.8.9", ""},
		{all, strings.Repeat("x", 65), ""},
		{all, strings.Repeat("x", 64) + "." + strings.Repeat("x", 63), "default.dev._._." + strings.Repeat("x", 64) + "." + strings.Repeat("x", 63)},
		{all, strings.Repeat("x", 64) + "." + strings.Repeat("x", 64), ""},
	} {
		got, err := config.BucketKey(ns, c.scope, c.key)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("BucketKey(%v, %.20q) = %q, %v, want %q", c.scope, c.key, got, err, c.want)
		}
		if err != nil {
			if bus.CodeOf(err) != bus.InvalidArgument {
				t.Errorf("BucketKey(%v, %.20q): %v", c.scope, c.key, err)
			}
			continue
		}
		if scope, key, err := config.ParseBucketKey(ns, got); scope != c.scope || key != c.key || err != nil {
			t.Errorf("ParseBucketKey(%q) = %v, %q, %v", got, scope, key, err)
		}
	}
	if _, _, err := config.ParseBucketKey(bus.Namespace{App: "default", Env: "de"}, "default.dev._._.a"); err == nil {
		t.Error("a key of another namespace is parsed")
	}
}

// What is parsed is what makes the same key.
func FuzzParseBucketKey(f *testing.F) {
	f.Add("default.dev.shop.1_3_0-rc_1=b.log.level")
	f.Add("default.dev._._.x")
	f.Add("default.dev.shop..x")
	f.Fuzz(func(t *testing.T, bucketKey string) {
		scope, key, err := config.ParseBucketKey(ns, bucketKey)
		if err != nil {
			return
		}
		if again, err := config.BucketKey(ns, scope, key); again != bucketKey || err != nil {
			t.Errorf("%q is %v and %q, which makes %q, %v", bucketKey, scope, key, again, err)
		}
	})
}

func TestCheckValue(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key, value string
		ok         bool
	}{
		{"log.level", "debug", true},
		{"log.level", `"info+2"`, true},
		{"log.level", "loud", false},
		{"log.level", "", false},
		{"client.timeout.total", "1.5s", true},
		{"client.timeout.total", "5", false},
		{"client.timeout.total", "0", false},
		{"client.timeout.retry", "-2s", false},
		{"client.canary", `{"1.2.0":95,"1.3.0":5}`, true},
		{"client.canary", `{}`, true},
		{"client.canary", `{"x":1}`, false},
		{"client.canary", `{"1.0.0":-1}`, false},
		{"service.register", "false", true},
		{"service.register", "perhaps", false},
		{"mine", "", true},
		{"mine", "anything", true},
		{"mine", "\x00\xff", true},
		{"log.level", "\x00\xff", false},
	} {
		err := config.CheckValue(tt.key, []byte(tt.value))
		if tt.ok != (err == nil) || err != nil && bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s = %.20q: %v", tt.key, tt.value, err)
		}
	}
}
