package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skybus-io/skybus/bus/bustest"
)

const waitTimeout = 20 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(noLeaks{m}, map[string]func(){
		"skybus": main,
		// connect is skybus with one more command, that shows what App.Connect does.
		"connect": func() {
			os.Exit(signaled(func(ctx context.Context) int {
				return execute(ctx, &connectCLI{}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
			}))
		},
		// stubborn does not stop when it is asked to.
		"stubborn": func() {
			os.Exit(signaled(func(ctx context.Context) int {
				fmt.Println("started")
				<-ctx.Done()
				select {}
			}))
		},
	})
}

// noLeaks fails tests that leave goroutines behind.
type noLeaks struct{ *testing.M }

func (m noLeaks) Run() int {
	code := m.M.Run()
	if err := bustest.Leaks("github.com/skybus-io/skybus/"); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CONFIG_HOME", env.WorkDir+"/config")
			env.Setenv("XDG_STATE_HOME", env.WorkDir+"/state")
			env.Setenv("GORACE", "atexit_sleep_ms=10") // a second for each program otherwise
			for _, listener := range []string{"HTTP", "TIMERS", "ADMIN", "NATS"} {
				env.Setenv("SKYBUS_"+listener, "127.0.0.1:0")
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitfile": waitFile,
			"jsonenv":  jsonEnv,
			"signal":   signalAll,
			"exitcode": exitCode,
			"fetch":    fetch,
			"send":     send,
		},
	})
}

// waitFile waits until a file is there, and has text that matches a pattern when one is given; with ! until it is gone.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfile file [pattern]")
	}
	pattern := regexp.MustCompile("")
	if len(args) == 2 {
		pattern = regexp.MustCompile(args[1])
	}
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(path)
		if found := err == nil && pattern.Match(data); found != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waitfile %s: not so after %v: error %v, content %q", args, waitTimeout, err, data)
		}
	}
}

// jsonEnv sets a variable to a field of an object in a file, and VAR_ADDR to its host and port when it is a URL.
func jsonEnv(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: jsonenv variable file field")
	}
	fields := map[string]string{}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &fields))
	value, ok := fields[args[2]]
	if !ok {
		ts.Fatalf("%s has no field %q: %v", args[1], args[2], fields)
	}
	ts.Setenv(args[0], value)
	if u, err := url.Parse(value); err == nil && u.Host != "" {
		ts.Setenv(args[0]+"_ADDR", u.Host)
	}
}

// signalAll sends a signal to each program in the background.
func signalAll(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: signal name")
	}
	sig, ok := testSignals()[args[0]]
	if !ok {
		ts.Fatalf("no signal %q here", args[0])
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(sig))
	}
}

// exitCode runs a program that must end with that code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exitcode code program [args...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("%v ended with %d, want %s", args[1:], code, args[0])
	}
}

// fetch asks a URL, by POST when there is a body, and writes status and body of the answer to a file.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: fetch file url [body]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	method, body := http.MethodGet, ""
	if len(args) == 3 {
		method, body = http.MethodPost, args[2]
	}
	req, err := http.NewRequestWithContext(ctx, method, args[1], strings.NewReader(body))
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	answer, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "%d %s", resp.StatusCode, answer), 0o600))
}

// send sends lines over TCP, says that no more will come, and writes what comes back to a file.
func send(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: send file address line...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", args[1])
	ts.Check(err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, strings.Join(args[2:], "\n")+"\n")
	ts.Check(errors.Join(err, c.(*net.TCPConn).CloseWrite(), c.SetReadDeadline(time.Now().Add(waitTimeout))))
	answer, err := io.ReadAll(c)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), answer, 0o600))
}

// connectCLI is a command line with a command for tests.
type connectCLI struct {
	globals
	Connect connectCmd `cmd:""`
}

type connectCmd struct {
	Dial bool `help:"Connect, too."`
}

// Run prints how it would connect, or whereto it did.
func (c connectCmd) Run(ctx context.Context, app *App) error {
	s, err := app.settings()
	if err != nil {
		return err
	}
	if !c.Dial {
		v := map[string]string{"url": s.URL, "user": s.User, "password": s.Password, "token": s.Token, "creds": s.Creds, "nkey": s.NKey, "ca": s.CA}
		return printOne(app, v, nil)
	}
	conn, err := app.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return printOne(app, map[string]string{"url": conn.NATS().ConnectedUrl(), "namespace": conn.Namespace().String()}, nil)
}

// runs calls the program in this process and returns its exit code and what it wrote.
func runs(ctx context.Context, root commands, args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = execute(ctx, root, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// starts runs a command beside the test. cancel stops it, and stop returns also what came of it, once it has ended.
func starts(t *testing.T, args ...string) (cancel func(), stop func() (code int, stderr string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var code int
	var stderr string
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, _, stderr = runs(ctx, &cli{}, args...)
	}()
	stop = func() (int, string) {
		cancel()
		<-done
		return code, stderr
	}
	t.Cleanup(func() { _, _ = stop() })
	return cancel, stop
}
