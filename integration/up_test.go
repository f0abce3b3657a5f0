//go:build unix

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// TestUpAnswersWithinASecond measures what whoever types the command waits for. It is not parallel, so that it measures
// the program and not the other tests.
func TestUpAnswersWithinASecond(t *testing.T) {
	needPrograms(t)
	const limit, tries = time.Second, 3
	best := time.Hour
	for range tries { // a busy machine may spoil one
		p := startUp(t, "--demo", "--memory")
		ready := time.Since(p.Begun())
		if _, err := newBrowser(t).widgets(t.Context(), p.Ports["http"]); err != nil {
			t.Fatal(err)
		}
		took := time.Since(p.Begun())
		t.Logf("ready after %v, a request answered after %v, resident memory %s", ready, took, resident(p))
		p.Stop(os.Interrupt)
		if best = min(best, took); best <= limit {
			return
		}
	}
	t.Errorf("a request was answered %v after the start at best, want at most %v", best, limit)
}

func TestUpStopsOnInterrupt(t *testing.T) {
	needPrograms(t)
	const limit = 2 * time.Second
	for _, test := range []struct {
		name string
		with func(t *testing.T, p *platform)
	}{
		{"idle", nil},
		{"under load", loaded},
		{"open connections", connected},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			best := time.Hour
			for try := 0; try < 3 && best > limit; try++ { // a busy machine may spoil one
				p := startUp(t, "--demo", "--data", t.TempDir())
				if test.with != nil {
					test.with(t, p)
				}
				took := p.Stop(os.Interrupt)
				t.Logf("stopped after %v", took)
				best = min(best, took)
				if _, err := os.Stat(p.PortsFile()); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the ports file is still there: %v", err)
				}
			}
			if best > limit {
				t.Errorf("stopped after %v at best, want at most %v", best, limit)
			}
		})
	}
}

func loaded(t *testing.T, p *platform) {
	t.Helper()
	startLoad(t, 8, callWidgets(t, p.Ports["http"])).await(100)
}

// connected opens connections to all there is and sends nothing, as a browser does ahead of need; and keeps some alive
// after a request.
func connected(t *testing.T, p *platform) {
	t.Helper()
	for _, what := range []string{"http", "admin", "nats"} {
		_, addr, _ := strings.Cut(p.Ports[what], "://")
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	newBrowser(t).get(t, p.Ports["http"])
	newBrowser(t).get(t, p.Ports["admin"]+"/healthz")
}

func TestDemoPage(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	gateway := startUp(t, "--demo", "--memory").Ports["http"]
	b := newBrowser(t)
	const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

	page := b.get(t, gateway+"/", "Accept", accept)
	form := regexp.MustCompile(`<form method="post" action="([^"]+)">\s*<input name="([^"]+)"`).FindStringSubmatch(page.body)
	if page.status != http.StatusOK || form == nil {
		t.Fatalf("the page at / has status %d and no form:\n%s", page.status, page.body)
	}
	submitted := b.post(t, gateway+form[1], form[2]+"=a+%3Cround%3E+one", "Accept", accept, "Content-Type", "application/x-www-form-urlencoded")
	if submitted.status != http.StatusOK || !strings.HasPrefix(submitted.header.Get("Content-Type"), "text/html") {
		t.Errorf("the form answers %d, %s", submitted.status, submitted.header.Get("Content-Type"))
	}
	for _, want := range []string{
		`<h1>Hello World</h1>`,
		`found a widget for &#34;a &lt;round&gt; one&#34;`,
		`(?s)<code>log\.write</code>.*stored, done by a worker.*ok`,
		`(?s)<code>authorize\.check</code>\s*<td><code>skybus://default\.dev\.authorize/\w+</code>`,
		`(?s)<code>getwidgets\.get</code>\s*<td><code>skybus://default\.dev\.getwidgets/\w+</code>`,
	} {
		if !regexp.MustCompile(want).MatchString(submitted.body) {
			t.Errorf("the answer has no %s:\n%s", want, submitted.body)
		}
	}
}

// TestCurl sends what `curl -d '{"input":"x"}' URL` does.
func TestCurl(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	gateway := startUp(t, "--demo", "--memory").Ports["http"]
	a := newBrowser(t).post(t, gateway+"/getwidgets", `{"input":"x"}`,
		"User-Agent", "curl/8.5.0", "Accept", "*/*", "Content-Type", "application/x-www-form-urlencoded")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("answer is %d, %s: %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	var got struct{ Output string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Output != "Hello World" {
		t.Errorf("output is %q (%v), want Hello World: %s", got.Output, err, a.body)
	}
}

func TestUpWithoutDemo(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	p := startUp(t, "--memory")
	for list, want := range map[string]int{"services": 1, "instances": 1, "routes": 0} { // its router
		var rows []struct{ Service string }
		out := skybus(t, p.Ports["nats"], list, "-o", "json")
		if json.Unmarshal([]byte(out), &rows) != nil || len(rows) != want || want > 0 && rows[0].Service != route.RouterService {
			t.Errorf("skybus %s prints %s, want %d", list, out, want)
		}
	}
	a := newBrowser(t).post(t, p.Ports["http"]+"/getwidgets", `{"input":"x"}`)
	if a.status != http.StatusNotFound {
		t.Errorf("the demo's route answers %d: %s", a.status, a.body)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t, "--sync", "1s")
	p := startUp(t, "--server", server.Ports["nats"])
	admin, b := p.Ports["admin"], newBrowser(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if a := b.get(t, admin+path); a.status != http.StatusOK || a.body != want {
			t.Errorf("%s answers %d %q, want %q", path, a.status, a.body, want)
		}
	}
	var vars struct {
		Memstats map[string]any
		Skybus   struct {
			Out   float64              `json:"out_msgs"`
			Calls *[]micro.CalleeStats `json:"calls"`
		}
	}
	a := b.get(t, admin+"/debug/vars")
	if err := json.Unmarshal([]byte(a.body), &vars); err != nil || len(vars.Memstats) == 0 || vars.Skybus.Out == 0 || vars.Skybus.Calls == nil {
		t.Errorf("/debug/vars answers %+v (%v): %s", vars.Skybus, err, a.body)
	}

	server.Kill()
	eventually(t, patience, "without NATS it is not ready", func() bool {
		return b.get(t, admin+"/readyz").status == http.StatusServiceUnavailable
	})
	if a := b.get(t, admin+"/healthz"); a.status != http.StatusOK {
		t.Errorf("without NATS /healthz answers %d: %s", a.status, a.body)
	}
	server.Restart()
	eventually(t, patience, "it is ready again", func() bool { return b.get(t, admin+"/readyz").status == http.StatusOK })
}

func TestSignalsChangeLogLevel(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	p := startUp(t, "--memory")
	for _, step := range []struct {
		sig  syscall.Signal
		want string
	}{
		{syscall.SIGUSR1, "DEBUG"},
		{syscall.SIGUSR1, "TRACE"},
		{syscall.SIGUSR2, "DEBUG"},
		{syscall.SIGUSR2, "INFO"},
		{syscall.SIGUSR2, "WARN"},
	} {
		before := p.Output()
		p.Signal(step.sig)
		eventually(t, patience, fmt.Sprintf("%v makes the level %s", step.sig, step.want), func() bool {
			text := p.Output()
			return strings.Contains(text[len(before):], `"msg":"log level changed","log_level":"`+step.want+`"`)
		})
	}
}
