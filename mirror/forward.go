package mirror

import (
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/internal/httpx"
)

// leftOut tells of which fields of a request or an answer, by their canonical names, nothing is passed on: those for the next hop
// only, also those that Connection names, our own, which nobody else may set, and Host, which net/http leaves among the fields of HTTP/2.
func leftOut(h http.Header) func(name string) bool {
	named := connectionFields(h)
	return func(name string) bool {
		return isHopByHop(name) || httpx.HopByHop(name) || name == "Host" || isOurs(dashed(name)) || slices.Contains(named, name)
	}
}

// isOurs tells whether a field may be set by the mirror alone.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "Skybus-") || strings.HasPrefix(name, "X-Skybus-")
}

// dashed is the name of a field with dashes for underscores: some backends take one for the other.
func dashed(name string) string {
	if strings.IndexByte(name, '_') < 0 {
		return name
	}
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// connectionFields are the fields that Connection names, but those that say nothing.
func connectionFields(h http.Header) []string {
	var named []string
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name != "" && !strings.EqualFold(name, "close") && !strings.EqualFold(name, "keep-alive") {
				named = append(named, http.CanonicalHeaderKey(name))
			}
		}
	}
	return named
}

// isUpgrade tells whether a request asks for another protocol.
func isUpgrade(h http.Header, protocol string) bool {
	for _, v := range h["Upgrade"] {
		for p := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(p), protocol) {
				return true
			}
		}
	}
	return false
}

// withheld tells of which fields of a client's request nothing is passed on.
func (m *Mirror) withheld(h http.Header) func(name string) bool {
	out := leftOut(h)
	return func(name string) bool {
		plain := dashed(name)
		return out(name) || isForwarded(plain) && (!m.cfg.TrustForwarded || plain != name) || plain == headerIdempotency && plain != name
	}
}

// isForwarded tells whether a field says whom a request came from. Only a proxy may say so.
func isForwarded(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// forwarded are the fields that say whom a request came from, to be set over those of the request.
func (m *Mirror) forwarded(r *http.Request) [3]field {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	host, proto := r.Host, "http"
	if r.TLS != nil {
		proto = "https"
	}
	if m.cfg.TrustForwarded {
		if before := r.Header["X-Forwarded-For"]; len(before) > 0 {
			client = strings.Join(before, ", ") + ", " + client
		}
		host = orDefault(r.Header.Get("X-Forwarded-Host"), host)
		proto = orDefault(r.Header.Get("X-Forwarded-Proto"), proto)
	}
	return [3]field{{Name: "X-Forwarded-For", Value: client}, {Name: "X-Forwarded-Host", Value: host}, {Name: "X-Forwarded-Proto", Value: proto}}
}

// isSecure tells whether the client reached us, or a proxy that is trusted, by TLS.
func (m *Mirror) isSecure(r *http.Request) bool {
	return r.TLS != nil || m.cfg.TrustForwarded && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
