package integration_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/skybus-io/skybus/"

// A set of import paths. An entry names one package, or with "/..." at its end all at and below it.
type paths []string

func (p paths) has(path string) bool {
	return slices.ContainsFunc(p, func(entry string) bool {
		prefix, all := strings.CutSuffix(entry, "/...")
		return path == prefix || all && strings.HasPrefix(path, prefix+"/")
	})
}

// ours turns paths inside the module into import paths.
func ours(inside ...string) paths {
	var p paths
	for _, path := range inside {
		p = append(p, module+path)
	}
	return p
}

// imports holds what each package of the module, and each it reaches, imports directly; tests are left out.
type imports map[string][]string

func listImports(t *testing.T) imports {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	all := make(imports)
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		all[words[0]] = words[1:]
	}
	return all
}

// chain returns the shortest way from a package to one it must not reach, or nil if there is none.
func (all imports) chain(from string, forbidden paths) []string {
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		way := queue[0]
		for _, next := range all[way[len(way)-1]] {
			if seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(way), next)
			if forbidden.has(next) {
				return longer
			}
			queue = append(queue, longer)
		}
	}
	return nil
}

// check reports each package of a set that reaches a forbidden one, with the way it takes.
func (all imports) check(t *testing.T, from, except, forbidden paths) {
	t.Helper()
	for path := range all {
		if !from.has(path) || except.has(path) {
			continue
		}
		if way := all.chain(path, forbidden); way != nil {
			t.Errorf("%s must not reach %s: %s", path, way[len(way)-1], strings.Join(way, " -> "))
		}
	}
}

// TestImports holds the part of the import table that is about what a package reaches, not only what it names:
// linters see direct imports alone.
func TestImports(t *testing.T) {
	t.Parallel()
	all := listImports(t)
	if _, ok := all[module+"bus"]; !ok {
		t.Fatalf("go list does not know %sbus: the rules below would hold for nothing", module)
	}

	server := paths{"github.com/nats-io/nats-server/v2/..."}
	grpc := paths{"google.golang.org/grpc/..."}
	protobuf := paths{"google.golang.org/protobuf/..."}
	testOnly := paths{"testing/...", "github.com/getkin/kin-openapi/...", "github.com/google/go-cmp/...", "github.com/rogpeppe/go-internal/..."}
	commandLine := paths{
		"github.com/alecthomas/kong/...", "github.com/jotaen/kong-completion/...", "github.com/jedib0t/go-pretty/...",
		"github.com/synadia-io/orbit.go/natscontext/...",
	}
	yaml := paths{"github.com/goccy/go-yaml/..."}
	library := ours("bus/...", "kv/...", "micro/...", "scheduler/...", "mirror/...", "initiators/...", "internal/...")
	withServer := ours("bus/embed", "bus/bustest")

	for _, rule := range []struct {
		name                    string
		from, except, forbidden paths
	}{
		{"no server in a library", library, withServer, server},
		{"no server in an example", ours("examples/..."), nil, server},
		{"testing is for tests", ours("..."), ours("bus/bustest", "internal/proctest", "scheduler/schedulertest"), testOnly},
		{"processes are for tests", ours("..."), nil, ours("internal/proctest")},
		{"command line stays in cmd", ours("..."), ours("cmd/..."), commandLine},
		{"yaml is for files", ours("..."), ours("cmd/...", "micro/config/file"), yaml},
		{"the lock stays with the server", ours("..."), append(ours("cmd/..."), withServer...), paths{"github.com/gofrs/flock/..."}},
		{"grpc stays in grpcbus", library, ours("micro/grpcbus/..."), grpc},
		{"protobuf is for who asks for it", library, ours("bus/protobuf", "micro/grpcbus/..."), protobuf},
		{"leaves reach nothing of ours", ours("bus", "bus/auth", "bus/bustest", "bus/embed", "bus/protobuf", "internal/...", "scheduler/webhook"), ours("internal/restapi"), ours("...")},
		{"kv stands on bus alone", ours("kv/..."), nil, ours("micro/...", "scheduler/...", "mirror/...", "initiators/...")},
		{"micro is below the capabilities", ours("micro/..."), nil, ours("scheduler/...", "mirror/...", "initiators/...")},
		{"parts of the gateway know no entries", ours("initiators/http/auth", "initiators/http/limit", "initiators/http/cors", "initiators/http/compress"), nil, ours("initiators", "initiators/http")},
		{"tokens stay in the gateway", library, ours("initiators/http/..."), paths{"github.com/go-jose/go-jose/..."}},
		{"scheduler", ours("scheduler/..."), nil, ours("micro/...", "mirror/...", "initiators/...")},
		{"mirror", ours("mirror/..."), nil, ours("micro/...", "scheduler/...", "initiators/...")},
		{"initiators", ours("initiators/..."), nil, ours("scheduler/...", "mirror/...")},
		{"programs are the top", ours("..."), ours("cmd/...", "integration/..."), ours("cmd/...", "integration/...")},
	} {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			all.check(t, rule.from, rule.except, rule.forbidden)
		})
	}
}

// TestImportsSeesViolations tries the check on what is known to be reached, lest TestImports pass because it sees nothing.
func TestImportsSeesViolations(t *testing.T) {
	t.Parallel()
	all := listImports(t)
	for _, known := range []struct{ from, forbidden string }{
		{"bus/embed", "github.com/nats-io/nats-server/v2/..."},
		{"bus/bustest", "testing/..."},
		{"bus", "github.com/nats-io/nats.go/internal/..."}, // not imported by bus itself
		{"kv", module + "bus/..."},
		{"bus/protobuf", "google.golang.org/protobuf/..."},
	} {
		way := all.chain(module+known.from, paths{known.forbidden})
		if len(way) < 2 || !(paths{known.forbidden}).has(way[len(way)-1]) {
			t.Errorf("%s reaches %s, seen is %q", known.from, known.forbidden, way)
		}
	}
}
