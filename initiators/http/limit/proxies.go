package limit

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

const (
	maxProxies   = 256 // in the configuration
	maxForwarded = 32  // addresses of X-Forwarded-For that are looked at
)

// Proxies are the addresses of proxies that are trusted to tell for whom they ask. None is trusted by default: whoever may write
// X-Forwarded-For may be anybody.
type Proxies struct{ trusted []netip.Prefix }

// ParseProxies reads addresses and networks: "10.0.0.7", "10.0.0.0/8", "fd00::/8". The error has the code [bus.InvalidArgument] and names field.
func ParseProxies(field string, list []string) (Proxies, error) {
	if len(list) > maxProxies {
		return Proxies{}, bus.Errorf(bus.InvalidArgument, "%s: there are %d: want at most %d", field, len(list), maxProxies)
	}
	var p Proxies
	for i, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return Proxies{}, bus.Errorf(bus.InvalidArgument, "%s[%d]: %.60q: want an address or a network, as in 10.0.0.0/8", field, i, text)
		}
		if prefix.Addr().Is4In6() {
			return Proxies{}, bus.Errorf(bus.InvalidArgument, "%s[%d]: %.60q: write it as IPv4", field, i, text)
		}
		p.trusted = append(p.trusted, prefix.Masked())
	}
	return p, nil
}

// Any tells whether any proxy is trusted.
func (p Proxies) Any() bool { return len(p.trusted) > 0 }

// Trusts tells whether addr is one of a proxy that is trusted. It must be without a zone, and IPv4 in IPv6 must be unmapped.
func (p Proxies) Trusts(addr netip.Addr) bool {
	for _, t := range p.trusted {
		if t.Contains(addr) {
			return true
		}
	}
	return false
}

// ClientIP is the address that a request is counted by: of who is connected, or, where that is a trusted proxy, of whom X-Forwarded-For names
// last that is none. What stands before that one the client could have written itself. Where an address there is none, the
// proxy that passed it on counts. The zero Addr means that who is connected has no address, as on a Unix socket.
func (p Proxies) ClientIP(r *http.Request) netip.Addr {
	peer := parsePeer(r.RemoteAddr)
	if len(p.trusted) == 0 || !p.Trusts(peer) {
		return peer
	}
	lines := r.Header["X-Forwarded-For"]
	seen := 0
	for _, line := range slices.Backward(lines) {
		for rest := line; rest != ""; seen++ {
			var one string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, one = rest[:comma], rest[comma+1:]
			} else {
				rest, one = "", rest
			}
			addr := parseAddr(strings.Trim(one, " \t"))
			if !addr.IsValid() || seen >= maxForwarded {
				return peer
			}
			if peer = addr; !p.Trusts(addr) {
				return peer
			}
		}
	}
	return peer
}

// parsePeer reads what net/http knows of who is connected, without an allocation.
func parsePeer(s string) netip.Addr {
	if port, err := netip.ParseAddrPort(s); err == nil {
		return port.Addr().Unmap().WithZone("")
	}
	return parseAddr(s)
}

// parseAddr reads an address with or without a port and brackets. The zero Addr is for what is none.
func parseAddr(s string) netip.Addr {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone("")
	}
	if port, err := netip.ParseAddrPort(s); err == nil {
		return port.Addr().Unmap().WithZone("")
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if addr, err := netip.ParseAddr(inner); err == nil && addr.Is6() {
				return addr.Unmap().WithZone("")
			}
		}
	}
	return netip.Addr{}
}
