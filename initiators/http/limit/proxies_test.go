package limit_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/limit"
)

func proxies(t testing.TB, list ...string) limit.Proxies {
	t.Helper()
	p, err := limit.ParseProxies("trusted_proxies", list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestClientIP(t *testing.T) {
	t.Parallel()
	inner := []string{"10.0.0.0/8", "fd00::/8", "192.0.2.7"}
	for _, tt := range []struct {
		name    string
		trusted []string
		peer    string
		fields  []string
		want    string
	}{
		{"nobody is trusted", nil, "203.0.113.1:80", []string{"1.1.1.1"}, "203.0.113.1"},
		{"a loopback peer is not trusted by itself", nil, "127.0.0.1:80", []string{"1.1.1.1"}, "127.0.0.1"},
		{"the peer is no proxy", inner, "203.0.113.1:80", []string{"1.1.1.1"}, "203.0.113.1"},
		{"one proxy", inner, "10.1.1.1:80", []string{"1.1.1.1"}, "1.1.1.1"},
		{"a single address is trusted", inner, "192.0.2.7:80", []string{"1.1.1.1"}, "1.1.1.1"},
		{"its neighbour is not", inner, "192.0.2.8:80", []string{"1.1.1.1"}, "192.0.2.8"},
		{"no field", inner, "10.1.1.1:80", nil, "10.1.1.1"},
		{"empty field", inner, "10.1.1.1:80", []string{""}, "10.1.1.1"},
		{"a client that lies", inner, "10.1.1.1:80", []string{"8.8.8.8, 1.1.1.1"}, "1.1.1.1"},
		{"a client that claims to be a proxy", inner, "10.1.1.1:80", []string{"8.8.8.8, 10.9.9.9, 1.1.1.1"}, "1.1.1.1"},
		{"two proxies", inner, "10.1.1.1:80", []string{"8.8.8.8, 1.1.1.1, 10.2.2.2"}, "1.1.1.1"},
		{"two fields", inner, "10.1.1.1:80", []string{"8.8.8.8", "1.1.1.1, 10.2.2.2"}, "1.1.1.1"},
		{"only proxies", inner, "10.1.1.1:80", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		{"garbage", inner, "10.1.1.1:80", []string{"8.8.8.8, unknown"}, "10.1.1.1"},
		{"garbage behind a proxy", inner, "10.1.1.1:80", []string{"8.8.8.8, _hidden, 10.2.2.2"}, "10.2.2.2"},
		{"empty member", inner, "10.1.1.1:80", []string{"8.8.8.8,,10.2.2.2"}, "10.2.2.2"},
		{"IPv6", inner, "[fd00::1]:80", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 with a port", inner, "[fd00::1]:80", []string{"[2001:db8::1]:4242"}, "2001:db8::1"},
		{"IPv6 in brackets", inner, "[fd00::1]:80", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv4 with a port", inner, "10.1.1.1:80", []string{"1.1.1.1:4242"}, "1.1.1.1"},
		{"IPv4 in IPv6", inner, "[::ffff:10.1.1.1]:80", []string{"::ffff:1.1.1.1"}, "1.1.1.1"},
		{"IPv4 in brackets", inner, "10.1.1.1:80", []string{"[1.1.1.1]"}, "10.1.1.1"},
		{"zone", inner, "10.1.1.1:80", []string{"fe80::1%eth0"}, "fe80::1"},
		{"spaces", inner, "10.1.1.1:80", []string{" \t1.1.1.1 \t, 10.2.2.2 "}, "1.1.1.1"},
		{"many", inner, "10.1.1.1:80", []string{"1.1.1.1" + strings.Repeat(", 10.2.2.2", 40)}, "10.2.2.2"},
		{"Unix socket", inner, "@", []string{"1.1.1.1"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
		if tt.fields != nil {
			r.Header["X-Forwarded-For"] = tt.fields
		}
		if got := proxies(t, tt.trusted...).ClientIP(r).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestProxiesRefuse(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{{""}, {"10.0.0.0/33"}, {"proxy.example.org"}, {"10.0.0.1:80"}, {"::ffff:10.0.0.0/104"}, {"fe80::1%eth0"}, make([]string, 300)} {
		if _, err := limit.ParseProxies("trusted_proxies", list); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), "trusted_proxies") {
			t.Errorf("%.3q: %v", list, err)
		}
	}
}

func FuzzClientIP(f *testing.F) {
	for _, s := range []string{"1.1.1.1", "8.8.8.8, 10.1.1.1", "[::1]:80,unknown", ",,,", "\"[2001:db8::1]\"", "10.0.0.1 ,10.0.0.2", strings.Repeat("10.0.0.1,", 100)} {
		f.Add(s)
	}
	p := proxies(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, field string) {
		r := &http.Request{RemoteAddr: "10.1.1.1:80", Header: http.Header{"X-Forwarded-For": {field}}}
		got := p.ClientIP(r)
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%q: %v", field, got)
		}
		// What a client writes before the address that the proxy adds changes nothing.
		r.Header["X-Forwarded-For"] = []string{field + ", 192.0.2.1"}
		if got := p.ClientIP(r); got != netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("%q before the address: %v", field, got)
		}
		// And whoever is no proxy is believed nothing.
		r.RemoteAddr = "203.0.113.1:80"
		if got := p.ClientIP(r); got != netip.MustParseAddr("203.0.113.1") {
			t.Fatalf("%q of no proxy: %v", field, got)
		}
	})
}
