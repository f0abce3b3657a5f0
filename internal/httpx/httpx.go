// Package httpx is what skybus's HTTP listeners have in common.
package httpx

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// GuardLoopback keeps web pages out of a listener that only this machine is meant to reach: where addr is a loopback
// address, requests are refused (421, a [Problem]) whose Host is neither localhost nor an IP address. A page of any site can have its
// own name resolve to 127.0.0.1 and would then count as of the same origin (DNS rebinding); it cannot do so without its name
// in the Host header. What can be no host is 400. hosts are let in besides: those that a proxy on this machine asks for. On other addresses h is returned as it is.
func GuardLoopback(addr net.Addr, h http.Handler, hosts ...string) http.Handler {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := hostName(r.Host); !local(name) && !slices.Contains(hosts, name) {
			p := Problem{
				Status: http.StatusMisdirectedRequest, Code: codeInvalid,
				Detail: "this listener is for this machine: ask for it as localhost or by its IP address",
			}
			if !validHost(r.Host) {
				p.Status, p.Detail = http.StatusBadRequest, "the request is for what can be no host"
			}
			p.Write(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hostName is a host without its port, in lower case. HTTP/1.0 requests have none.
func hostName(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
}

// local tells whether a host is a name that no other machine can take.
func local(name string) bool {
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// CrossOrigin refuses, by its Check, what a browser was made to send by a page of another origin than the listener's own and those
// trusted. Programs are not concerned, and neither is what changes nothing (GET, HEAD, OPTIONS).
func CrossOrigin(trusted []string) (*http.CrossOriginProtection, error) {
	p := http.NewCrossOriginProtection()
	for _, origin := range trusted {
		if err := p.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	return p, nil
}
