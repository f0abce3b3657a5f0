package file_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/config/file"
)

const example = `
all:
  log.level: info
  region: eu
  limits: [1, 2]
services:
  shop:
    client:
      timeout: {retry: 500ms, total: 5s}
    client.canary: {1.2.0: 95, "1.3.0+b": 5}
    log.level: warn
    versions:
      1.3.0+b:
        log.level: debug
        weights: {any name: 1.5, other: true}
  till:
    port: 8080
`

func TestSetting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "skybus.yaml")
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := file.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ service, version, key, want string }{
		{"", "", "log.level", `"info"`},
		{"unknown", "1.0.0", "log.level", `"info"`},
		{"shop", "", "log.level", `"warn"`},
		{"shop", "1.2.0", "log.level", `"warn"`},
		{"shop", "1.3.0+b", "log.level", `"debug"`},
		{"shop", "1.3.0+b", "region", `"eu"`},
		{"shop", "1.3.0+b", "client.timeout.retry", `"500ms"`},
		{"shop", "", "client.timeout", `{"retry":"500ms","total":"5s"}`},
		{"shop", "", "client.canary", `{"1.2.0":95,"1.3.0+b":5}`},
		{"shop", "1.3.0+b", "weights", `{"any name":1.5,"other":true}`},
		{"till", "", "port", `8080`},
		{"till", "", "limits", `[1,2]`},
		{"", "", "port", ``},
		{"shop", "", "versions", ``},
		{"shop", "", "weights", ``},
	} {
		raw, ok := l.Setting(c.service, c.version, c.key)
		if string(raw) != c.want || ok != (c.want != "") {
			t.Errorf("Setting(%q, %q, %q) = %s, %v, want %s", c.service, c.version, c.key, raw, ok, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"log.level: info", `"log.level"`},
		{"all: 5", "all: want a mapping"},
		{"services: [shop]", "services: want a mapping"},
		{"services: {a.b: {x: 1}}", "service"},
		{"services: {_: {x: 1}}", "service"},
		{"services: {shop: {versions: {v1: {x: 1}}}}", "version"},
		{"services: {shop: {versions: 1.0.0}}", "services.shop.versions: want a mapping"},
		{"all: {a b: 1}", `"a b"`},
		{"all: {a: null}", `"a" has no value`},
		{"all: {a: .inf}", `"a" is nothing`},
		{"all: {a.b: 1, a: {b: 2}}", `"a.b" is set twice`},
		{"all: {x: " + strings.Repeat("y", config.MaxValue) + "}", `"x" has`},
		{"all: [", "line 1"},
		{"all:\n  a: 1\n  a: secret", "line 3"},
		{"all: {a: 1}\n---\nall: {a: 2}", "more than one document"},
		{strings.Repeat("#", file.MaxFile+1), "more than"},
	} {
		l, err := file.Parse([]byte(c.text))
		if l != nil || bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Parse(%.40q): %v, want %q in it", c.text, err, c.want)
		}
	}
	if _, err := file.Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of nothing: %v", err)
	}
	for _, empty := range []string{"", "---\n", "# nothing\n", "all:\nservices:\n  shop:\n    versions:\n"} {
		if _, err := file.Parse([]byte(empty)); err != nil {
			t.Errorf("Parse(%q): %v", empty, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("all: {a: &x [1], b: *x}"))
	f.Add([]byte("services: {shop: {versions: {1.0.0: {a: {b: {c: 1}}}}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := file.Parse(data)
		if err != nil {
			return
		}
		if raw, ok := l.Setting("shop", "1.0.0", "a"); ok && !json.Valid(raw) {
			t.Errorf("%q is no JSON", raw)
		}
	})
}

// A file of a platform has the values in a section of its own.
func TestPlatformsFile(t *testing.T) {
	t.Parallel()
	l, err := file.Parse([]byte("http: 127.0.0.1:8080\nconfig:\n  all:\n    a.b: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if raw, ok := l.Setting("", "", "a.b"); !ok || string(raw) != "1" {
		t.Errorf("%s, %t", raw, ok)
	}
	for _, text := range []string{"config: 1\n", "config:\n  http: x\n", "http: x\n"} {
		if _, err := file.Parse([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
