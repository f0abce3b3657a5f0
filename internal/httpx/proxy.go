package httpx

import (
	"net"
	"net/http"
	"strings"
)

// RemoveHopByHop removes what is for one connection and must not be passed on (RFC 9110, section 7.6.1), those fields included that
// Connection names. It does so before a proxy sets fields of its own, which a client could name otherwise. With Upgrade and TE it
// removes the wish for another protocol and for trailers, with Expect one that is answered already. Content-Length stays, which the
// answer to a HEAD needs; who sends a body sets it anew.
func RemoveHopByHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				h.Del(name)
			}
		}
	}
	for name := range h {
		if HopByHop(name) {
			delete(h, name)
		}
	}
}

// HopByHop tells whether a field, by its canonical name, is always for one connection.
func HopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
		"Proxy-Authenticate", "Proxy-Authorization", "Http2-Settings":
		return true
	}
	return false
}

// SetForwarded tells a backend in h, the header to send, from whom r came: X-Forwarded-For has the address of the peer, X-Forwarded-Host and
// X-Forwarded-Proto what it asked for. What the client said of these is overwritten, and X-Real-Ip, Forwarded and the other fields that
// begin with X-Forwarded- are removed, also where they are written with underscores, which some backends take for the same.
//
// With trusted, r came from a proxy of ours: then its fields are kept, and the address of the peer is added to X-Forwarded-For.
func SetForwarded(h http.Header, r *http.Request, trusted bool) {
	for name := range h {
		underscored := strings.ContainsRune(name, '_')
		dashed := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if forwarded(dashed) && (underscored || !trusted) {
			delete(h, name)
		}
	}
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		peer = r.RemoteAddr
	}
	if before := h["X-Forwarded-For"]; len(before) > 0 && peer != "" {
		peer = strings.Join(before, ", ") + ", " + peer
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	if peer != "" {
		h["X-Forwarded-For"] = []string{peer}
	}
	for _, f := range [][2]string{{"X-Forwarded-Host", r.Host}, {"X-Forwarded-Proto", proto}} {
		if len(h[f[0]]) == 0 && f[1] != "" {
			h[f[0]] = []string{f[1]}
		}
	}
}

func forwarded(name string) bool {
	return name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-")
}

// RemovePrefix removes the fields whose names begin with a prefix in canonical form, also where they are written with underscores,
// and leaves those named: what only the proxy itself may say to a backend.
func RemovePrefix(h http.Header, prefix string, but ...string) {
names:
	for name := range h {
		for _, b := range but {
			if name == b {
				continue names
			}
		}
		if strings.HasPrefix(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")), prefix) {
			delete(h, name)
		}
	}
}
