package scheduler

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

func testGuard(t testing.TB, z *zone, allow []netip.Prefix, ports ...uint16) *guard {
	t.Helper()
	g, err := newGuard(allow, ports)
	if err != nil {
		t.Fatal(err)
	}
	g.resolver = z.resolver()
	return g
}

func TestGuardAddresses(t *testing.T) {
	t.Parallel()
	g := testGuard(t, &zone{}, nil)
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1", "127.255.255.254",
		"168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1",
		"192.168.1.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
		"255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
		"100::1", "100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff:ffff::1", "2001:db8::1", "2002:7f00:1::1", "2620:4f:8000::1",
		"3ffe::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "2606:4700::1%eth0",
	} {
		if err := g.refusal(netip.MustParseAddr(a)); bus.CodeOf(err) != bus.PermissionDenied {
			t.Errorf("%s: %v, want it refused", a, err)
		}
	}
	for _, a := range []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "172.15.255.255", "172.32.0.0",
		"192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "::ffff:1.1.1.1",
		"2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00::1", "2003::1", "3ffd::1",
	} {
		if err := g.refusal(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: %v, want it allowed", a, err)
		}
	}
}

func TestGuardAllows(t *testing.T) {
	t.Parallel()
	g := testGuard(t, &zone{}, []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::ffff:10.1.0.0/112"), netip.MustParsePrefix("fd00::/8"),
	})
	for a, want := range map[string]bool{
		"127.0.0.1": true, "::ffff:127.9.9.9": true, "10.1.255.255": true, "10.2.0.1": false, "fd00::1": true, "fc00::1": false, "fd00::1%lo": false,
		"::1": false, "1.1.1.1": true,
	} {
		if err := g.refusal(netip.MustParseAddr(a)); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", a, err, want)
		}
	}
	for _, cfg := range []Config{{AllowNetworks: []netip.Prefix{{}}}, {AllowPorts: []uint16{80, 0}}} {
		if _, err := newGuard(cfg.AllowNetworks, cfg.AllowPorts); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%v: %v, want it refused", cfg, err)
		}
	}
}

func TestGuardURL(t *testing.T) {
	t.Parallel()
	for _, tt := range urls() {
		if _, err := testGuard(t, &zone{}, nil).checkURL(tt.url); bus.CodeOf(err) != tt.code {
			t.Errorf("%.80q: %v, want %q", tt.url, err, tt.code)
		}
	}
	g := testGuard(t, &zone{}, nil, 25, 443)
	for u, want := range map[string]bool{"http://a.example:25": true, "https://a.example": true, "http://a.example": false, "http://a.example:8080": false} {
		if _, err := g.checkURL(u); (err == nil) != want {
			t.Errorf("%s where ports 25 and 443 are allowed: %v", u, err)
		}
	}
}

type urlTest struct {
	url  string
	code bus.Code
}

func urls() []urlTest {
	host := strings.Repeat("a.", 126) + "a"
	return []urlTest{
		{"http://example.com", ""},
		{"https://example.com:8443/a?b=c#d", ""},
		{"HTTP://EXAMPLE.com./", ""},
		{"http://xn--bcher-kva.example/", ""},
		{"http://my_host/", ""},
		{"http://1.1.1.1/", ""},
		{"http://[2606:4700::1]:8080/", ""},
		{"http://example.com:/", ""},
		{"http://" + host + "/", ""},
		{"http://" + host + "aa/", bus.InvalidArgument},
		{"http://" + strings.Repeat("a", 300) + "/", bus.InvalidArgument},
		{"http://" + strings.Repeat("a", 64) + ".example/", bus.InvalidArgument},
		{"http://example.com/" + strings.Repeat("a", MaxURI), bus.InvalidArgument},
		{"", bus.InvalidArgument},
		{"example.com", bus.InvalidArgument},
		{"http:example.com", bus.InvalidArgument},
		{"http:///path", bus.InvalidArgument},
		{"http://:80/", bus.InvalidArgument},
		{"http://user:pw@example.com/", bus.InvalidArgument},
		{"http://user@example.com/", bus.InvalidArgument},
		{"http://@example.com/", bus.InvalidArgument},
		{"file:///etc/passwd", bus.InvalidArgument},
		{"gopher://example.com/", bus.InvalidArgument},
		{"unix:///run/x.sock", bus.InvalidArgument},
		{"ftp://example.com/", bus.InvalidArgument},
		{"http://example.com/\r\nX: y", bus.InvalidArgument},
		{"http://exa mple.com/", bus.InvalidArgument},
		{"http://exa%20mple.com/", bus.InvalidArgument},
		{"http://a..b/", bus.InvalidArgument},
		{"http://2130706433/", bus.InvalidArgument},
		{"http://0x7f000001/", bus.InvalidArgument},
		{"http://0x7f.0.0.1/", bus.InvalidArgument},
		{"http://0177.0.0.1/", bus.InvalidArgument},
		{"http://127.1/", bus.InvalidArgument},
		{"http://127.0.0.1./", bus.InvalidArgument},
		{"http://127.0.0.0x1/", bus.InvalidArgument},
		{"http://１２７.0.0.1/", bus.InvalidArgument},
		{"http://bücher.example/", bus.InvalidArgument},
		{"http://example.com:0/", bus.InvalidArgument},
		{"http://example.com:70000/", bus.InvalidArgument},
		{"http://example.com:+80/", bus.InvalidArgument},
		{"http://example.com:22/", bus.PermissionDenied},
		{"http://example.com:25/", bus.PermissionDenied},
		{"http://example.com:1023/", bus.PermissionDenied},
		{"http://example.com:1024/", ""},
		{"http://example.com:443/", ""},
	}
}

func TestGuardNames(t *testing.T) {
	t.Parallel()
	z := &zone{}
	z.set("public.example", "1.1.1.1", "2606:4700::1")
	z.set("mixed.example", "127.0.0.1", "1.1.1.1")
	z.set("inner.example", "10.0.0.1", "fd00::1")
	g := testGuard(t, z, nil)
	for host, want := range map[string]bool{
		"public.example": true, "mixed.example": true, "inner.example": false, "unknown.example": true,
		"localhost": false, "LocalHost.": false, "x.localhost": false, "127.0.0.1": false, "::1": false, "169.254.169.254": false, "1.1.1.1": true,
	} {
		for range 2 { // the second time from memory
			err := g.checkTarget(t.Context(), host)
			if (err == nil) != want {
				t.Errorf("%s: %v, want allowed %v", host, err, want)
			}
			helps := strings.Contains(fmt.Sprint(err), "--allow-network") || host == "169.254.169.254"
			if err != nil && (bus.AsError(err).HTTPStatus() != 422 || !helps || bus.AsError(err).Details["field"] != "target.uri") {
				t.Errorf("%s: %v has the status %d, and does not help", host, err, bus.AsError(err).HTTPStatus())
			}
		}
	}
	before := z.questions()
	if err := g.checkTarget(t.Context(), "PUBLIC.example."); err != nil || z.questions() != before {
		t.Errorf("%v after %d questions: a name is to be remembered", err, z.questions()-before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.checkTarget(ctx, "later.example"); err != nil {
		t.Error(err)
	}
	z.set("later.example", "10.0.0.1")
	if err := g.checkTarget(t.Context(), "later.example"); err == nil {
		t.Error("a question that was given up was remembered as an answer")
	}
}

// A refusal names all that would have to be allowed, but how to reach the metadata of cloud machines it does not tell.
func TestGuardTells(t *testing.T) {
	t.Parallel()
	z := &zone{}
	z.set("inner.example", "10.0.0.1", "fd00::1", "10.0.0.2")
	z.set("creds.example", "10.0.0.1", "169.254.169.254")
	g := testGuard(t, z, nil)
	for host, want := range map[string]string{
		"localhost":       "--allow-network 127.0.0.0/8,::1/128)",
		"127.0.0.1":       "--allow-network 127.0.0.0/8)",
		"inner.example":   "fd00::1/128",
		"169.254.169.254": "find their credentials",
		"169.254.170.2":   "find their credentials",
		"168.63.129.16":   "find their credentials",
		"fd00:ec2::254":   "find their credentials",
		"100.100.100.200": "find their credentials",
		"creds.example":   "find their credentials",
	} {
		err := g.checkTarget(t.Context(), host)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(want, "credentials") && strings.Contains(err.Error(), "--allow-network") {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	if err := testGuard(t, z, []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}).checkTarget(t.Context(), "169.254.169.254"); err != nil {
		t.Errorf("allowed by who knows: %v", err)
	}
}

// TestGuardDials meets a name that has changed since it was checked, and one with a good and a bad address.
func TestGuardDials(t *testing.T) {
	t.Parallel()
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	z := &zone{}
	z.set("changes.example", "1.1.1.1")
	g := testGuard(t, z, nil)
	if err := g.checkTarget(t.Context(), "changes.example"); err != nil {
		t.Fatal(err)
	}
	z.set("changes.example", "127.0.0.1", "::1", "::ffff:127.0.0.1")
	for _, host := range []string{"changes.example", "127.0.0.1", "localhost"} {
		conn, err := g.dialer().DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			_ = conn.Close()
		}
		if bus.CodeOf(err) != bus.PermissionDenied {
			t.Errorf("%s: %v, want it refused", host, err)
		}
	}
	if conn, err := g.dialer().DialContext(t.Context(), "udp", net.JoinHostPort("127.0.0.1", port)); err == nil {
		_ = conn.Close()
		t.Error("udp is dialled")
	}
	allowed := testGuard(t, z, loopback())
	conn, err := allowed.dialer().DialContext(t.Context(), "tcp", net.JoinHostPort("changes.example", port))
	if err != nil {
		t.Fatalf("one address is allowed: %v", err)
	}
	_ = conn.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = peer.Close()
	if conn, err := testGuard(t, z, loopback(), 1).dialer().DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
		_ = conn.Close()
		t.Error("a port that is not allowed is dialled")
	}
}

func FuzzGuardURL(f *testing.F) {
	for _, s := range []string{
		"http://example.com/", "https://user:pw@h/", "http://[::ffff:127.0.0.1]:80/", "http://[fe80::1%25lo]/", "http://127.1/", "http://a:b@c:d@e:99999/%zz",
		"http://0x7f.1/", "HTTP://x:1024", "http:opaque", "//x", "http://\u3002/", "http://a%2eb/",
	} {
		f.Add(s)
	}
	g, err := newGuard(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := g.checkURL("http://user:canary-of-fuzz@" + raw); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q with a password: %v", raw, err)
		}
		u, err := g.checkURL(raw)
		if err != nil {
			return
		}
		again, err := url.Parse(raw)
		if err != nil || again.User != nil || again.Scheme != "http" && again.Scheme != "https" || len(u.Hostname()) > 253 || u.Hostname() == "" {
			t.Errorf("%q was taken: %v", raw, err)
		}
		if err := g.checkPort(portOf(u)); err != nil {
			t.Errorf("%q was taken: %v", raw, err)
		}
		if strings.ContainsAny(u.Hostname(), "@/\\ \t\r\n\x00") {
			t.Errorf("%q was taken with the host %q", raw, u.Hostname())
		}
	})
}
