package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// said is what an instance of the service "who" answers: which it is, and what it was told.
type said struct {
	By     string `json:"by"`
	Input  string `json:"input,omitempty"`
	Header string `json:"header,omitempty"`
}

// startWho runs instances of the service "who", by their region. The one called "slow" answers nothing in time, and
// what instances hear without answering goes to heard.
func startWho(t *testing.T, regions map[string]string, heard chan<- said) string {
	t.Helper()
	s := bustest.Server(t, bustest.TCP())
	type body struct {
		Input string `json:"input"`
	}
	for id, region := range regions {
		started := make(chan struct{})
		svc, err := micro.NewService(connectTo(t, s), micro.Config{
			Name: "who", Instance: id, Region: region, Version: "1.0.0", Drain: time.Millisecond, Hooks: micro.Hooks{Started: func() { close(started) }},
		})
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(
			micro.Handle(svc, "are", func(ctx context.Context, req body) (said, error) {
				if id == "slow" { // its time may be over before the caller has taken the other's answer
					<-ctx.Done()
					return said{}, ctx.Err()
				}
				if req.Input == "fail" {
					return said{}, errors.New("no")
				}
				return said{id, req.Input, micro.RequestHeader(ctx).Get("Color")}, nil
			}),
			micro.Handle(svc, "hear", func(ctx context.Context, req body) (said, error) {
				heard <- said{id, req.Input, micro.RequestHeader(ctx).Get("Color")}
				return said{}, nil
			}, micro.OneWay()),
			micro.HandleServerStream(svc, "count", func(ctx context.Context, req body, out *micro.Sender[said]) error {
				for n := range 3 {
					if err := out.Send(ctx, said{By: id, Input: fmt.Sprint(req.Input, n)}); err != nil {
						return err
					}
				}
				if req.Input == "hang" {
					<-ctx.Done()
				}
				return nil
			}),
		)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- svc.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Log(err) // what was under way was cut off
			}
		})
		<-started
	}
	return s.URL()
}

// calls runs `skybus call` and returns what it printed as JSON.
func calls(t *testing.T, url string, args ...string) []said {
	t.Helper()
	code, stdout, stderr := runs(t.Context(), &cli{}, append([]string{"call", "--server", url, "-o", "json"}, args...)...)
	if code != exitOK {
		t.Fatalf("%q: exit %d, stderr %q", args, code, stderr)
	}
	var all []said
	for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
		var s said
		if err := d.Decode(&s); err != nil {
			t.Fatalf("%q: %v in %q", args, err, stdout)
		}
		all = append(all, s)
	}
	return all
}

func TestCallChooses(t *testing.T) {
	t.Parallel()
	url := startWho(t, map[string]string{"eu1": "eu", "us1": "us", "us2": "us"}, nil)
	for range 5 {
		for _, flag := range []string{"--to-region", "--region"} {
			if got := calls(t, url, "who.are", "{}", flag, "eu"); len(got) != 1 || got[0].By != "eu1" {
				t.Errorf("%s eu: %v", flag, got)
			}
		}
	}
	keyed := calls(t, url, "who.are", "--key", "ada")
	for range 5 {
		for _, args := range [][]string{{"--key", "ada"}, {"--key", "ada", "--policy", "consistent-hash"}} {
			if got := calls(t, url, append(args, "who.are")...); len(got) != 1 || got[0] != keyed[0] {
				t.Errorf("%q: %v, and %v before", args, got, keyed)
			}
		}
	}
	for _, policy := range []string{"random", "nearest", "best-quality"} {
		if got := calls(t, url, "who.are", "--policy", policy, "--region", "eu"); len(got) != 1 || got[0].By != "eu1" {
			t.Errorf("%s: %v", policy, got)
		}
	}
	got := calls(t, url, "who.are", `{"input":"x"}`, "--header", "Color: red", "--once")
	if len(got) != 1 || got[0].Header != "red" || got[0].Input != "x" {
		t.Errorf("with a header: %v", got)
	}
	if got := calls(t, url, "who.are", "--to-instance", "skybus://default.dev.who/us2"); len(got) != 1 || got[0].By != "us2" {
		t.Errorf("by its address: %v", got)
	}
	code, _, stderr := runs(t.Context(), &cli{}, "call", "who.are", "--server", url, "--region", "ap", "--timeout", "300ms")
	if code != exitFailed || !strings.Contains(stderr, `in region "ap"`) {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

// One of two instances does not answer: another is asked too.
func TestCallHedges(t *testing.T) {
	t.Parallel()
	url := startWho(t, map[string]string{"fast": "", "slow": ""}, nil)
	for range 8 {
		if got := calls(t, url, "who.are", "--hedge", "20ms"); len(got) != 1 || got[0].By != "fast" {
			t.Errorf("answers %v", got)
		}
	}
}

func TestCallAllInstances(t *testing.T) {
	t.Parallel()
	url := startWho(t, map[string]string{"a": "", "b": "", "slow": ""}, nil)
	code, stdout, stderr := runs(t.Context(), &cli{}, "call", "who.are", `{"input":"x"}`, "--all", "--quiet", "300ms", "--header", "Color:red", "--server", url)
	const want = `INSTANCE  ANSWER
a         {"by":"a","input":"x","header":"red"}
b         {"by":"b","input":"x","header":"red"}
slow      deadline_exceeded: no answer
`
	if code != exitFailed || stdout != want || stderr != "skybus: 1 of 3 instances failed\n" {
		t.Errorf("exit %d, stderr %q, stdout\n%s", code, stderr, stdout)
	}
	code, stdout, _ = runs(t.Context(), &cli{}, "call", "who.are", `{"input":"fail"}`, "--all", "--quiet", "300ms", "-o", "json", "--server", url)
	var rows []gatheredRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitFailed || len(rows) != 3 || rows[0].OK || rows[0].Code != "unknown" || rows[2].Code != "deadline_exceeded" {
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
	// All answer: it ends at once, whatever the timeout.
	begin := time.Now()
	healthy := startWho(t, map[string]string{"a": "", "b": ""}, nil)
	code, stdout, stderr = runs(t.Context(), &cli{}, "call", "who.are", "--all", "--server", healthy, "--timeout", "1m")
	if code != exitOK || strings.Count(stdout, "\n") != 3 || time.Since(begin) > waitTimeout {
		t.Errorf("exit %d after %v: %s%s", code, time.Since(begin), stdout, stderr)
	}
	code, _, stderr = runs(t.Context(), &cli{}, "call", "nobody.there", "--all", "--server", url, "--timeout", "1s")
	if code != exitFailed || !strings.HasPrefix(stderr, "skybus: unavailable: nobody serves nobody.there") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestCallOneWay(t *testing.T) {
	t.Parallel()
	heard := make(chan said, 10)
	url := startWho(t, map[string]string{"eu1": "eu", "us1": "us"}, heard)
	receive := func() said {
		select {
		case s := <-heard:
			return s
		case <-time.After(waitTimeout):
			t.Fatal("nothing was heard")
			return said{}
		}
	}
	for _, flag := range []string{"--one-way", "--notify"} {
		if got := calls(t, url, "who.hear", `{"input":"x"}`, flag, "--header", "Color: red", "--region", "eu"); len(got) != 0 {
			t.Errorf("it printed %v", got)
		}
		if got := receive(); got != (said{"eu1", "x", "red"}) {
			t.Errorf("heard %v", got)
		}
	}
	calls(t, url, "who.hear", "--one-way", "--to-instance", "us1")
	if got := receive(); got.By != "us1" {
		t.Errorf("heard %v", got)
	}
	calls(t, url, "who.hear", "--one-way", "--all")
	if a, b := receive(), receive(); a.By == b.By {
		t.Errorf("heard %v twice", a)
	}
}

func TestCallStreams(t *testing.T) {
	t.Parallel()
	url := startWho(t, map[string]string{"eu1": "eu", "us1": "us"}, nil)
	got := calls(t, url, "who.count", `{"input":"n"}`, "--stream", "--region", "us")
	if len(got) != 3 || got[0] != (said{By: "us1", Input: "n0"}) || got[2].Input != "n2" {
		t.Errorf("messages %v", got)
	}
	code, stdout, _ := runs(t.Context(), &cli{}, "call", "who.count", "--stream", "--server", url, "--to-instance", "eu1")
	if want := `{"by":"eu1","input":"0"}`; code != exitOK || !strings.HasPrefix(stdout, want+"\n") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	code, _, stderr := runs(t.Context(), &cli{}, "call", "who.are", "--stream", "--server", url)
	if code != exitFailed || !strings.HasPrefix(stderr, "skybus: failed_precondition: ") {
		t.Errorf("no stream: exit %d, stderr %q", code, stderr)
	}
	// The timeout is for the opening, so it does not end a stream that goes on; an interrupt does.
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(time.Second, cancel)
	defer stop.Stop()
	begin := time.Now()
	code, stdout, stderr = runs(ctx, &cli{}, "call", "who.count", `{"input":"hang"}`, "--stream", "--server", url, "--timeout", "500ms")
	if code != exitFailed || stderr != "skybus: interrupted\n" || strings.Count(stdout, "hang") != 3 || time.Since(begin) < time.Second {
		t.Errorf("exit %d after %v, stdout %q, stderr %q", code, time.Since(begin), stdout, stderr)
	}
}

func TestCallFlagsTogether(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"--all --stream", "--all --to-region eu", "--all --key x", "--all --hedge 1s", "--all --trace", "--one-way --stream", "--one-way --trace",
		"--one-way --once", "--stream --hedge 1s", "--once --hedge 1s", "--once --idempotent", "--to-instance a --key x", "--hedge -1s",
		"--quiet 1s", "--all --quiet -1s", "--policy mod-hash", "--policy best", "--header x",
		"--to-instance skybus://default.dev.b/x", "--to-instance skybus://default.dev.a", "--to-instance skybus://a.b.a/x", "--to-instance skybus://a",
		"--header Skybus-From:me", "--header a\x01:b",
	} {
		code, _, stderr := runs(t.Context(), &cli{}, append([]string{"call", "a.b", "--server", "nats://127.0.0.1:1"}, strings.Fields(args)...)...)
		if code != exitUsage {
			t.Errorf("%s: exit %d, stderr %q", args, code, stderr)
		}
	}
}
