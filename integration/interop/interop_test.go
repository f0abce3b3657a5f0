// Package interop_test tries skybus with programs in JavaScript that use NATS's own packages and know nothing of skybus.
package interop_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	installTimeout = 2 * time.Minute
	scriptTimeout  = 30 * time.Second
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

// missing leaves out a test for want of something, but where all must run.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// packages is a directory with files of a directory here, and the packages they need, installed once for all tests that are given the same T.
func packages(t *testing.T, from string, scripts ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("installs packages")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "there is no %s: %v", program, err)
		}
	}
	dir := t.TempDir()
	for _, name := range append(scripts, "package.json", "package-lock.json") {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error",
		"--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000")
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, "npm ci: %v: is there a package registry?\n%s", err, out)
	}
	t.Logf("npm ci took %v", time.Since(begin).Round(time.Millisecond))
	return dir
}

// node runs a script to its end and returns what it printed.
func node(t *testing.T, dir, script string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	var stderr strings.Builder
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = dir, &stderr, time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, out, stderr.String())
	}
	return out
}

// startNode runs a script in the background and returns when it has printed its first line. It ends with its standard
// input, when the test does.
func startNode(t *testing.T, dir, script string, args ...string) (line string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "node", append([]string{script}, args...)...)
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = dir, t.Output(), time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	first := make(chan string, 1)
	reading.Go(func() {
		lines := bufio.NewReader(stdout)
		line, _ := lines.ReadString('\n') // the end of the output is an empty line
		first <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, lines)
	})
	t.Cleanup(func() {
		_ = stdin.Close()
		stuck := time.AfterFunc(scriptTimeout, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		reading.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	})
	select {
	case line := <-first:
		return line
	case <-time.After(scriptTimeout):
		t.Fatalf("%s: no line after %v", script, scriptTimeout)
		return ""
	}
}

func connect(t *testing.T, s *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{Server: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

type shout struct {
	Word string `json:"word"`
}

type (
	hello    struct{ Name string }
	greeting struct{ Text string }
)

// greet runs a service called greeter until the test ends.
func greet(t *testing.T, conn *bus.Conn) {
	t.Helper()
	registered := make(chan struct{})
	svc, err := micro.NewService(conn, micro.Config{
		Name: "greeter", Version: "1.2.3", Instance: "first", Description: "says hello", Region: "north",
		Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { close(registered) })},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = micro.Handle(svc, "hello", func(_ context.Context, req hello) (greeting, error) {
		if req.Name == "" {
			return greeting{}, bus.Errorf(bus.FailedPrecondition, "who are you?")
		}
		return greeting{"Hello " + req.Name}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-registered
}

// seen is what client.js prints.
type seen struct {
	Ping              []natsmicro.Ping
	Info              []natsmicro.Info
	Stats             []natsmicro.Stats
	Good, Bad, Broken struct {
		Answer      greeting
		ContentType string
		Error       string
		Status      int
		Code        bus.Code
	}
}

func TestInterop(t *testing.T) {
	t.Parallel()
	dir := packages(t, ".", "client.js", "service.js")
	t.Run("their client, our service", func(t *testing.T) {
		t.Parallel()
		theirClient(t, dir)
	})
	t.Run("our client, their service", func(t *testing.T) {
		t.Parallel()
		theirService(t, dir)
	})
}

// theirClient lists our services, reads what they tell, and calls one.
func theirClient(t *testing.T, dir string) {
	t.Helper()
	s := bustest.Server(t, bustest.TCP())
	greet(t, connect(t, s))
	const subject = "default.dev.svc.greeter.hello"
	var got seen
	if err := json.Unmarshal(node(t, dir, "client.js", s.URL(), "greeter", subject), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Ping) != 1 || len(got.Info) != 1 || len(got.Stats) != 1 {
		t.Fatalf("%d pings, %d infos, %d stats, want one of each: %+v", len(got.Ping), len(got.Info), len(got.Stats), got)
	}
	identity := got.Ping[0].ServiceIdentity
	if identity.Name != "greeter" || identity.ID != "first" || identity.Version != "1.2.3" ||
		identity.Metadata[micro.MetadataNamespace] != "default.dev" || identity.Metadata[micro.MetadataRegion] != "north" {
		t.Errorf("ping tells of %+v", identity)
	}
	want := natsmicro.EndpointInfo{Name: "hello", Subject: subject, QueueGroup: bus.QueueService}
	info := got.Info[0]
	if diff := cmp.Diff(identity, info.ServiceIdentity); diff != "" || info.Description != "says hello" || len(info.Endpoints) != 1 {
		t.Fatalf("info %+v, differs from the ping:\n%s", info, diff)
	}
	info.Endpoints[0].Metadata = nil
	if diff := cmp.Diff(want, info.Endpoints[0]); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	stats := got.Stats[0].Endpoints
	if len(stats) != 1 || stats[0].NumRequests != 3 || stats[0].NumErrors != 2 || stats[0].Subject != subject {
		t.Errorf("stats %+v, want 3 requests with 2 errors", stats)
	}
	if got.Good.Answer.Text != "Hello Node" || got.Good.ContentType != "application/json" || got.Good.Error != "" {
		t.Errorf("answer %+v", got.Good)
	}
	if got.Bad.Error != "who are you?" || got.Bad.Status != 400 || got.Bad.Code != bus.FailedPrecondition {
		t.Errorf("refusal %+v", got.Bad)
	}
	if got.Broken.Status != 400 || got.Broken.Code != bus.InvalidArgument {
		t.Errorf("answer to what is no JSON: %+v", got.Broken)
	}
}

// theirService is found through $SRV.INFO, and called: by hand, by a client, and by a route.
func theirService(t *testing.T, dir string) {
	t.Helper()
	s := bustest.Server(t, bustest.TCP())
	conn := connect(t, s)
	line := startNode(t, dir, "service.js", s.URL(), "shouter")
	id, ok := strings.CutPrefix(line, "ready ")
	if !ok {
		t.Fatalf("service.js printed %q", line)
	}
	reply, err := conn.Request(t.Context(), &nats.Msg{Subject: "$SRV.INFO.shouter"})
	if err != nil {
		t.Fatal(err)
	}
	var info natsmicro.Info
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.ID != id || info.Version != "2.1.0" || len(info.Endpoints) != 1 || info.Endpoints[0].Subject != "shouter.shout" {
		t.Fatalf("info %+v", info)
	}
	reply, err = conn.Request(t.Context(), &nats.Msg{Subject: info.Endpoints[0].Subject, Data: []byte(`{"word":"hey"}`)})
	if err != nil || string(reply.Data) != `{"word":"HEY!"}` {
		t.Errorf("answer %+v, error %v", reply, err)
	}

	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	answer, err := micro.Call[shout](t.Context(), client, "shouter.shout", shout{"hello"})
	if err != nil || answer.Word != "HELLO!" {
		t.Errorf("client: %+v, error %v", answer, err)
	}
	_, err = micro.Call[shout](t.Context(), client, "shouter.shout", shout{})
	if e := bus.AsError(err); e == nil || e.Code != bus.InvalidArgument || e.Message != "there is no word" {
		t.Errorf("client: error %v", err)
	}
	_, err = micro.Call[shout](t.Context(), client, "shouter.whisper", shout{"hello"})
	if bus.CodeOf(err) != bus.Unimplemented {
		t.Errorf("client: an endpoint that is not there: %v", err)
	}

	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), "loud", route.Route{Steps: []route.Step{{Service: "shouter", Endpoint: "shout"}}}, 0); err != nil {
		t.Fatal(err)
	}
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	result, err := runner.Run(t.Context(), "loud", route.Request{ContentType: "application/json", Body: []byte(`{"word":"bus"}`)})
	if err != nil || string(result.Body) != `{"word":"BUS!"}` {
		t.Errorf("route: %s, error %v", result.Body, err)
	}
}
