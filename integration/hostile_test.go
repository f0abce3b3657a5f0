//go:build unix

package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// victim is a gateway of a platform of its own, and a service behind it that notes what it is asked.
type victim struct {
	*platform

	addr  string
	conn  *bus.Conn
	leave func() // stops the service, which is to be before its server is

	mu    sync.Mutex
	calls []asked
}

// asked is a request as the service had it.
type asked struct {
	ContentType string      `json:"content_type"`
	Body        string      `json:"body"`
	Header      nats.Header `json:"header"`
	Caller      string      `json:"caller"`
}

// typed is the request of an endpoint with types.
type typed struct {
	ID     string `json:"id"`
	Number int64  `json:"number"`
}

// startVictim starts a gateway with entries for all that may go wrong: /echo/{id} and /echo, /typed, /publish/{token}, /header, /large and /admin/{rest...}.
func startVictim(t *testing.T, args ...string) *victim {
	t.Helper()
	needPrograms(t)
	v := &victim{platform: startUp(t, append([]string{"--memory"}, args...)...)}
	_, v.addr, _ = strings.Cut(v.Ports["http"], "://")
	v.conn = connect(t, v.Ports["nats"])
	registered := make(chan struct{})
	svc, err := micro.NewService(v.conn, micro.Config{
		Name: "victim", Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { close(registered) })},
	})
	if err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, body string) asked {
		c := asked{micro.Info(ctx).ContentType, body, micro.RequestHeader(ctx), micro.Info(ctx).Caller}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.calls = append(v.calls, c)
		return c
	}
	for _, err := range []error{
		micro.Handle(svc, "echo", func(ctx context.Context, body []byte) ([]byte, error) { note(ctx, string(body)); return body, nil }),
		micro.Handle(svc, "admin", func(ctx context.Context, body []byte) ([]byte, error) {
			note(ctx, "admin "+string(body))
			return body, nil
		}),
		micro.Handle(svc, "seen", func(ctx context.Context, body []byte) (asked, error) { return note(ctx, string(body)), nil }),
		micro.Handle(svc, "typed", func(ctx context.Context, in typed) (typed, error) {
			note(ctx, fmt.Sprint(in))
			return in, nil
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	v.leave = sync.OnceFunc(runUntil(t, svc.Run))
	t.Cleanup(v.leave)
	<-registered
	putEntries(t, v.conn, map[string]string{
		"echo":    `{"method":"POST","path":"/echo","call":"victim.echo"}`,
		"item":    `{"path":"/echo/{id}","call":"victim.echo"}`,
		"typed":   `{"method":"POST","path":"/typed","call":"victim.typed"}`,
		"seen":    `{"path":"/seen","call":"victim.seen","headers":{"forward":["X-Note","X-User"]},"request":{"fields":{"remote":"{remote}"},"header":{"X-Query":"{query.q|optional}"}}}`,
		"publish": `{"method":"POST","path":"/publish/{token}","publish":"default.dev.pub.{path.token}.x"}`,
		"large":   `{"method":"POST","path":"/large","publish":"default.dev.pub.large","max_body":"8MiB"}`,
		"admin":   `{"path":"/admin/{rest...}","call":"victim.admin"}`,
	})
	b := newBrowser(t)
	eventually(t, patience, "the entries are live", func() bool {
		a, err := b.do(t.Context(), http.MethodPost, v.Ports["http"]+"/typed", `{}`)
		return err == nil && a.status == http.StatusOK || err == nil && a.status == http.StatusUnauthorized
	})
	v.taken()
	return v
}

// runUntil runs f until stop is called.
func runUntil(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// taken are the requests that the service had since the last time.
func (v *victim) taken() []asked {
	v.mu.Lock()
	defer v.mu.Unlock()
	calls := v.calls
	v.calls = nil
	return calls
}

// raw sends bytes and returns the answers, so many, and then what else there is until the gateway closes. With cut nothing follows the bytes.
func (v *victim) raw(t *testing.T, text string, n int, cut bool) []answer {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", v.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	half := func() { _ = c.(*net.TCPConn).CloseWrite() }
	go func() {
		_, _ = io.WriteString(c, text) // the gateway may hang up early
		if cut {
			half()
		}
	}()
	var answers []answer
	for r := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers
		}
		body, _ := io.ReadAll(resp.Body) // what there is of it is shown
		_ = resp.Body.Close()
		answers = append(answers, answer{resp.StatusCode, resp.Header, string(body)})
		if len(answers) == n && !cut {
			half() // the gateway closes then too
		}
	}
}

// unharmed fails the test where the gateway has lost its connection, or answers no good request any more.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	b := newBrowser(t)
	if a := b.post(t, v.Ports["http"]+"/echo", `{"a":1}`); a.status != http.StatusOK || a.body != `{"a":1}` {
		t.Errorf("a good request after it: %d %s", a.status, a.body)
	}
	var vars struct {
		Skybus struct {
			Reconnects uint64 `json:"reconnects"`
		} `json:"skybus"`
	}
	if a := b.get(t, v.Ports["admin"]+"/debug/vars"); json.Unmarshal([]byte(a.body), &vars) != nil || vars.Skybus.Reconnects != 0 {
		t.Errorf("the gateway has lost its connection %d times", vars.Skybus.Reconnects)
	}
}

// wire is a request as it goes over the wire, or several, and what is to come of it: the statuses of the answers, and the bodies that the service has.
type wire struct {
	row    int // of the table of bad inputs
	name   string
	text   string
	status []int
	bodies []string
	cut    bool // nothing follows, though more was announced
}

// to is a request to a path, with header lines and a body.
func to(method, path, header, body string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + header + "\r\n" + body
}

func length(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }

func wires() []wire {
	const limit = 1<<20 - 16<<10
	second := to("POST", "/echo", length(8), `"second"`)
	big := `"` + strings.Repeat("x", limit) + `"`
	post := func(header, body string) string { return to("POST", "/echo", header, body) }
	bad := []int{400}
	all := []wire{
		{15, "length, chunks and a second request", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "3\r\n[1]\r\n0\r\n\r\n") + second, []int{200, 200}, []string{"[1]", `"second"`}, false},
		{15, "chunks that end before the length", post("Transfer-Encoding: chunked\r\n"+length(200), "0\r\n\r\n") + second, []int{200, 200}, []string{"", `"second"`}, false},
		{16, "two lengths", post(length(2)+length(3), "{} "), bad, nil, false},
		{16, "a length with a sign", post("Content-Length: +2\r\n", "{}"), bad, nil, false},
		{16, "a negative length", post("Content-Length: -1\r\n", "{}"), bad, nil, false},
		{17, "an unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n") + second, []int{501}, nil, false},
		{17, "a coding twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), []int{501}, nil, false},
		{18, "bare line feeds", "POST /echo HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}", []int{200}, []string{"{}"}, false},
		{18, "a folded header", post("X-A: b\r\n Content-Length: 50\r\n"+length(2), "{}"), []int{200}, []string{"{}"}, false},
		{19, "a bad chunk", post("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), bad, nil, false},
		{19, "a body that breaks off", post(length(20), "{}"), bad, nil, true},
		{19, "chunks that break off", post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n"), bad, nil, true},
		{20, "a body beyond the limit", post(length(len(big)), big), []int{413}, nil, false},
		{20, "chunks beyond the limit", post("Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big)), []int{413}, nil, false},
		{20, "a length beyond the limit", post(length(99999999), "{"), []int{413}, nil, false},
		{21, "a large header", post("X-A: "+strings.Repeat("b", 24<<10)+"\r\n"+length(2), "{}"), []int{431}, nil, false},
		{21, "a thousand header fields", post(strings.Repeat("A: b\r\n", 1000)+length(2), "{}"), []int{431}, nil, false},
		{24, "another's address", "GET http://evil.example/admin/x HTTP/1.1\r\nHost: localhost\r\n\r\n", []int{421}, nil, false},
		{24, "another's address as the host", "GET http://evil.example/admin/x HTTP/1.1\r\nHost: evil.example\r\n\r\n", []int{421}, nil, false},
		{25, "no host", "GET /echo/a HTTP/1.1\r\n\r\n", bad, nil, false},
		{25, "two hosts", to("GET", "/echo/a", "Host: localhost\r\n", ""), bad, nil, false},
		{26, "CONNECT", "CONNECT localhost:25 HTTP/1.1\r\nHost: localhost:25\r\n\r\n", []int{405}, nil, false},
		{26, "TRACE", "TRACE /echo/a HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\n", []int{405}, nil, false},
		{26, "an unknown method", to("BREW", "/echo/a", "", ""), []int{405}, nil, false},
		{26, "a method in lower case", to("get", "/echo/a", "", ""), []int{405}, nil, false},
		{28, "an upgrade to HTTP/2", post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"+length(2), "{}"), []int{200}, []string{"{}"}, false},
		{28, "an upgrade to a web socket", to("GET", "/echo/a", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), []int{200}, []string{`{"id":"a"}`}, false},
		{30, "a long name of a service", to("POST", "/v1/call/"+strings.Repeat("a", 5000)+"/echo", length(2), "{}"), bad, nil, false},
		{30, "a long name of an endpoint", to("POST", "/v1/call/victim/"+strings.Repeat("a", 5000), length(2), "{}"), bad, nil, false},
		{30, "a long name of a route", to("POST", "/"+strings.Repeat("a", 5000), length(2), "{}"), bad, nil, false},
	}
	for _, host := range []string{"a b", "a/b", "u@a", "a:b", "a,b", "localhost:99999", "[::1"} {
		all = append(all, wire{25, "host " + host, "GET /echo/a HTTP/1.1\r\nHost: " + host + "\r\n\r\n", bad, nil, false})
	}
	for _, path := range []string{
		"/../admin/x", "/echo/../admin/x", "//admin/x", "/echo//a", "/echo/%2e%2e/admin/x", "/echo/..%2fadmin%2fx", "/echo/a%2fb", "/echo/a%5cb", `/echo/a\b`, "/echo/%00", "/echo/%252e%252e",
		"/echo/%c0%ae", "/echo/.", "/echo/%0d%0aX:y",
	} {
		all = append(all, wire{23, path, to("GET", path, "", ""), bad, nil, false})
	}
	for _, token := range []string{"a%20b", "*", "%3E", "a.b", "a%0d%0aPUB%20x%200", "%09", "%24JS", strings.Repeat("x", 65), strings.Repeat("x", 5000), "%C3%A4"} {
		all = append(all, wire{29, fmt.Sprintf("token %.20s", token), to("POST", "/publish/"+token, length(0), ""), bad, nil, false})
	}
	return all
}

// TestHostileWire sends what no honest client would to a gateway, byte by byte (rows 15 to 21, 23 to 26 and 28 to 30 of the table of bad inputs). Each is refused, or taken for one request
// as it was framed anew; a service has what was answered with 200, and nothing else.
func TestHostileWire(t *testing.T) {
	t.Parallel()
	v := startVictim(t)
	heard := make(chan *nats.Msg, 100)
	for _, subject := range []string{"default.dev.pub.>", "x", "PUB"} {
		if _, err := v.conn.NATS().ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	for _, w := range wires() {
		t.Run(fmt.Sprintf("%d %s", w.row, w.name), func(t *testing.T) { // not parallel: they look at what the service has
			answers := v.raw(t, w.text, len(w.status), w.cut)
			var status []int
			for _, a := range answers {
				status = append(status, a.status)
				if a.status == http.StatusSwitchingProtocols || strings.Contains(a.body, "Cookie") {
					t.Errorf("%+v", a)
				}
			}
			if !slices.Equal(status, w.status) {
				t.Errorf("answered by %v, want %v", answers, w.status)
			}
			var bodies []string
			for _, c := range v.taken() {
				bodies = append(bodies, c.Body)
			}
			if !slices.Equal(bodies, w.bodies) {
				t.Errorf("the service has %q, want %q", bodies, w.bodies)
			}
		})
	}
	v.unharmed(t)
	if err := v.conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	for len(heard) > 0 {
		t.Errorf("something was published on %s", (<-heard).Subject)
	}
}

// TestHostileSlowHeaders (row 22): who sends headers byte by byte is hung up on within seconds, and holds nobody else up.
func TestHostileSlowHeaders(t *testing.T) {
	t.Parallel()
	v := startVictim(t, "--http-max-in-flight", "4")
	const slow = 50
	var dripping sync.WaitGroup
	var mu sync.Mutex
	var lasted []time.Duration
	for range slow {
		dripping.Go(func() {
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", v.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			begin := time.Now()
			_ = c.SetReadDeadline(begin.Add(patience))
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				_, _ = io.Copy(io.Discard, c)
			}()
			text := "POST /echo HTTP/1.1\r\nHost: localhost\r\nX-A: "
			for i := 0; ; i++ {
				b := "x"
				if i < len(text) {
					b = text[i : i+1]
				}
				select {
				case <-stop:
					mu.Lock()
					lasted = append(lasted, time.Since(begin))
					mu.Unlock()
					return
				case <-time.After(100 * time.Millisecond): // the attacker's own pace
					_, _ = io.WriteString(c, b)
				}
			}
		})
	}
	b := newBrowser(t)
	for begin := time.Now(); time.Since(begin) < 3*time.Second; {
		if a := b.post(t, v.Ports["http"]+"/echo", `{}`); a.status != http.StatusOK {
			t.Fatalf("another client: %d %s", a.status, a.body)
		}
	}
	dripping.Wait()
	if longest := slices.Max(lasted); len(lasted) != slow || longest > 15*time.Second {
		t.Errorf("%d were hung up on, the last after %v", len(lasted), longest)
	}
}

// TestHostileForwarding (rows 27 and 31): what clients say in headers of proxies, of NATS and of skybus does not become what services are told, nor take away what the gateway tells.
func TestHostileForwarding(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	access := filepath.Join(dir, "access.yaml")
	if err := os.WriteFile(access, []byte("keys: {}\nheaders: {X-User: auth.id}\npolicy: {anonymous: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := startVictim(t, "--access", access)
	var key struct{ ID, Key string }
	if err := json.Unmarshal([]byte(skybus(t, v.Ports["nats"], "keys", "new", "-o", "json")), &key); err != nil {
		t.Fatal(err)
	}
	seen := func(t *testing.T, target, header string, want int) asked {
		t.Helper()
		answers := v.raw(t, to("GET", target, header, ""), 1, false)
		if len(answers) != 1 || answers[0].status != want {
			t.Fatalf("%v, want %d", answers, want)
		}
		var c asked
		if want == http.StatusOK {
			if err := json.Unmarshal([]byte(answers[0].body), &c); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	eventually(t, patience, "the key is known", func() bool {
		return v.raw(t, to("GET", "/seen", "X-Api-Key: "+key.Key+"\r\n", ""), 1, false)[0].status == http.StatusOK
	})
	for name, header := range map[string]string{
		"27 nominated":        "Connection: X-User, close\r\nX-User: root\r\n",
		"27 with underscores": "X_User: root\r\nX-user: root\r\n",
		"27 proxies and skybus": "X-Forwarded-For: 192.0.2.1\r\nX-Real-Ip: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nSkybus-From: skybus://default.dev.boss/1\r\nSkybus-Attempt: 9\r\nSkybus-One-Way: 1\r\n" +
			"Nats-Msg-Id: x\r\nNats-Service-Error: x\r\nReply-To: default.dev.svc.victim.admin\r\n",
	} {
		c := seen(t, "/seen", header+"X-Api-Key: "+key.Key+"\r\n", http.StatusOK)
		if len(c.Header) != 1 || !slices.Equal(c.Header["X-User"], []string{key.ID}) || !strings.HasPrefix(c.Caller, "skybus://default.dev.gateway/") || c.Body != `{"remote":"127.0.0.1"}` {
			t.Errorf("%s: the service has %+v", name, c)
		}
		if c = seen(t, "/seen", header, http.StatusOK); len(c.Header) != 0 {
			t.Errorf("%s: of nobody the service has %v", name, c.Header)
		}
	}
	for name, tt := range map[string]struct {
		target, header string
		status         int
	}{
		"31 folded":            {"/seen", "X-Note: a\r\n Nats-Msg-Id: x\r\n", 200},
		"31 a control":         {"/seen", "X-Note: a\x01b\r\n", 400},
		"31 NUL":               {"/seen", "X-Note: a\x00b\r\n", 400},
		"31 line in the query": {"/seen?q=a%0d%0aNats-Msg-Id:%20x", "", 400},
		"31 NUL in the query":  {"/seen?q=a%00", "", 400},
		"31 space in a name":   {"/seen", "X Note: a\r\n", 400},
		"31 line in a name":    {"/seen", "X-Note\rNats-Msg-Id: a\r\n", 400},
	} {
		if c := seen(t, tt.target, tt.header, tt.status); c.Header.Get("Nats-Msg-Id") != "" {
			t.Errorf("%s: the service has %v", name, c.Header)
		}
	}
	v.unharmed(t)
}

// TestHostileBodies (rows 32, 34 and 35): what is no request of a type is refused without being handled, and what can be read in one way only comes as it was written.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	v := startVictim(t)
	const msgpack, deep = "application/msgpack", 10_001
	for name, tt := range map[string]struct {
		path, contentType, body string
		status                  int
		want                    string // what the service has
	}{
		"32 a byte beyond what NATS takes": {"/large", "text/plain", strings.Repeat("x", 1<<20+1), 413, ""},
		"32 beyond the limit of the entry": {"/large", "text/plain", strings.Repeat("x", 8<<20+1), 413, ""},
		"34 an array of 2^32":              {"/typed", msgpack, "\xdd\xff\xff\xff\xff", 400, ""},
		"34 a map of 2^32":                 {"/typed", msgpack, "\xdf\xff\xff\xff\xff", 400, ""},
		"34 a text of 2^32":                {"/typed", msgpack, "\x81\xa2id\xdb\xff\xff\xff\xff", 400, ""},
		"34 depth":                         {"/typed", msgpack, strings.Repeat("\x91", 100_000) + "\x01", 400, ""},
		"34 a wrong type":                  {"/typed", msgpack, "\x81\xa6number\xa1x", 400, ""},
		"34 trailing bytes":                {"/typed", msgpack, "\x80\x80", 400, ""},
		"34 NaN for a name":                {"/typed", msgpack, "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01", 400, ""},
		"34 no UTF-8":                      {"/typed", msgpack, "\x81\xa2id\xa1\xff", 200, "{\xff 0}"},
		"35 a name twice":                  {"/typed", "application/json", `{"id":"a","id":"b"}`, 200, "{b 0}"},
		"35 1e400":                         {"/typed", "application/json", `{"number":1e400}`, 400, ""},
		"35 depth":                         {"/typed", "application/json", strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep), 400, ""},
		"35 64 bits":                       {"/typed", "application/json", `{"number":9223372036854775807}`, 200, "{ 9223372036854775807}"},
		"35 65 bits":                       {"/typed", "application/json", `{"number":9223372036854775808}`, 400, ""},
		"35 BOM":                           {"/typed", "application/json", "\xef\xbb\xbf{}", 400, ""},
		"35 trailing garbage":              {"/typed", "application/json", `{}]`, 400, ""},
	} {
		t.Run(name, func(t *testing.T) { // not parallel: they look at what the service has
			header := "Content-Type: " + tt.contentType + "\r\n" + length(len(tt.body))
			answers := v.raw(t, strings.Replace(to("POST", tt.path, header, tt.body), "Content-Type: application/json\r\n", "", 1), 1, false)
			if len(answers) != 1 || answers[0].status != tt.status || len(answers[0].body) > 2000 {
				t.Errorf("%.300v, want %d", answers, tt.status)
			}
			var bodies []string
			for _, c := range v.taken() {
				bodies = append(bodies, c.Body)
			}
			if got := strings.Join(bodies, "|"); got != tt.want {
				t.Errorf("the service has %q, want %q", got, tt.want)
			}
		})
	}
	v.unharmed(t)
}

// TestHostileIDs (row 37): what is no id makes no timer, is none that could be looked for, and no request id of services.
func TestHostileIDs(t *testing.T) {
	t.Parallel()
	v := startVictim(t)
	b := newBrowser(t)
	for _, id := range []string{"../x", "a b", "*", ">", "a.b", strings.Repeat("x", 65), strings.Repeat("x", 4<<10), "größe", "a\r\nb", "a\x00b", "."} {
		body, err := json.Marshal(map[string]any{"id": id, "after": "1h", "target": map[string]string{"uri": "nats://default.dev.pub.x"}})
		if err != nil {
			t.Fatal(err)
		}
		if a := b.post(t, v.Ports["http"]+"/v1/timers", string(body), "Content-Type", "application/json"); a.status != 422 && a.status != 400 {
			t.Errorf("a timer called %.20q: %d %s", id, a.status, a.body)
		}
		for _, path := range []string{"/v1/timers/", "/v1/requests/"} {
			for _, a := range v.raw(t, to("GET", path+strings.ReplaceAll(url.PathEscape(id), "/", "%2F"), "", ""), 1, false) {
				if a.status < 300 || a.status >= 500 || strings.Contains(a.body, `"state"`) { // a path with a dot is redirected to one without
					t.Errorf("%s%.20q: %d %s", path, id, a.status, a.body)
				}
			}
		}
		if strings.ContainsAny(id, "\r\n\x00") || len(id) > 100 {
			continue // no header can have it
		}
		for _, a := range v.raw(t, to("GET", "/echo/a", "X-Request-Id: "+id+"\r\n", ""), 1, false) {
			if got := a.header.Get("X-Request-Id"); a.status == 200 && (got == id || bus.CheckToken("id", got) != nil) {
				t.Errorf("the request id %q became %q", id, got)
			}
		}
	}
	timers := b.get(t, v.Ports["http"]+"/v1/timers")
	var list struct{ Timers []any }
	if err := json.Unmarshal([]byte(timers.body), &list); err != nil || len(list.Timers) != 0 {
		t.Errorf("there are timers: %s, %v", timers.body, err)
	}
	v.unharmed(t)
}
