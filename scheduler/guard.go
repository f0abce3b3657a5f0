package scheduler

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	maxHost        = 253 // characters, as in DNS
	maxLabel       = 63
	lowestOpenPort = 1024 // of those that are allowed by default beside 80 and 443
	dialTimeout    = 5 * time.Second
	lookupTimeout  = 2 * time.Second
	lookupFresh    = 30 * time.Second
	maxLookups     = 4096 // remembered
	maxNamed       = 4    // addresses of a name that are told
)

// guard keeps what users have called away from the networks this process can reach and they should not. It judges each address at the
// moment it is dialled, so a name that changes its mind, or has one bad address among good ones, gains nothing. What it tells
// when a timer is made is for the user's sake.
type guard struct {
	allow    []netip.Prefix
	special  []netip.Prefix
	ports    []uint16      // nil means the default
	resolver *net.Resolver // for tests; nil means the system's
	lookups  *memo[[]netip.Addr]
}

func newGuard(allow []netip.Prefix, ports []uint16) (*guard, error) {
	g := &guard{special: special(), ports: slices.Clone(ports), lookups: newMemo[[]netip.Addr](maxLookups)}
	for _, p := range allow {
		if !p.IsValid() {
			return nil, bus.Errorf(bus.InvalidArgument, "scheduler: Config.AllowNetworks has an invalid network")
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 { // addresses are compared as IPv4 ones
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow = append(g.allow, p.Masked())
	}
	if slices.Contains(ports, 0) {
		return nil, bus.Errorf(bus.InvalidArgument, "scheduler: Config.AllowPorts has port 0")
	}
	return g, nil
}

// special are the networks of the IANA's special-purpose registries, and multicast. The IPv6 ones outside of 2000::/3 need not be
// named: nothing there is public.
func special() []netip.Prefix {
	networks := []string{
		"0.0.0.0/8",         // this network
		"10.0.0.0/8",        // private
		"100.64.0.0/10",     // shared by customers of a provider
		"127.0.0.0/8",       // loopback
		"169.254.0.0/16",    // link-local, with the metadata of cloud machines
		"168.63.129.16/32",  // what a machine at Azure asks for its secrets
		"172.16.0.0/12",     // private
		"192.0.0.0/24",      // protocol assignments
		"192.0.2.0/24",      // documentation
		"192.31.196.0/24",   // AS112
		"192.52.193.0/24",   // AMT
		"192.88.99.0/24",    // relays of 6to4
		"192.168.0.0/16",    // private
		"192.175.48.0/24",   // AS112
		"198.18.0.0/15",     // benchmarks
		"198.51.100.0/24",   // documentation
		"203.0.113.0/24",    // documentation
		"224.0.0.0/4",       // multicast
		"240.0.0.0/4",       // reserved, and broadcast
		"2001::/23",         // protocol assignments: Teredo, benchmarks, ORCHID, AMT, AS112
		"2001:db8::/32",     // documentation
		"2002::/16",         // 6to4: leads to any IPv4 address
		"2620:4f:8000::/48", // AS112
		"3ffe::/16",         // the former 6bone
		"3fff::/20",         // documentation
	}
	prefixes := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		prefixes[i] = netip.MustParsePrefix(n)
	}
	return prefixes
}

// metadata are networks in which cloud machines find their credentials. To call them takes who knows that to allow it: nobody is told how.
func metadata() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("100.100.100.200/32"),
		netip.MustParsePrefix("168.63.129.16/32"),
	}
}

// refusal says why an address may not be called, and which network would have to be allowed. It is nil for one that may.
func (g *guard) refusal(addr netip.Addr) error {
	p, ok := g.refuses(addr)
	if !ok {
		return nil
	}
	return refusedAddresses([]netip.Addr{addr}, []netip.Prefix{p})
}

// refuses tells whether an address may not be called, and the network that would have to be allowed.
func (g *guard) refuses(addr netip.Addr) (p netip.Prefix, refused bool) {
	zone := addr.Zone() != ""
	addr = addr.Unmap()
	if !zone && slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return p, false
	}
	for _, p := range g.special {
		if p.Contains(addr) {
			return p, true
		}
	}
	if !zone && (addr.Is4() || addr.As16()[0]>>5 == 1) /* 2000::/3 */ {
		return p, false
	}
	return netip.PrefixFrom(addr.WithZone(""), 128), true
}

// refusedAddresses is the error for a target that has no other addresses.
func refusedAddresses(addrs []netip.Addr, networks []netip.Prefix) *bus.Error {
	for _, addr := range addrs {
		if addr.Zone() != "" {
			return refusedTarget("%s belongs to one link of this machine and cannot be allowed", addr)
		}
		if slices.ContainsFunc(metadata(), func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) }) {
			return refusedTarget("%s is where cloud machines find their credentials: no target of a timer", addr)
		}
	}
	var names, prefixes []string
	for i, addr := range addrs {
		names = append(names, addr.String())
		if p := networks[i].String(); !slices.Contains(prefixes, p) {
			prefixes = append(prefixes, p)
		}
	}
	flag := strings.Join(prefixes, ",")
	if len(names) == 1 {
		return refusedTarget("%s is no public address: allow it by Config.AllowNetworks (skybus: --allow-network %s) if timers may call it", names[0], flag)
	}
	return refusedTarget("%s are no public addresses: allow them by Config.AllowNetworks (skybus: --allow-network %s) if timers may call them",
		strings.Join(names, " and "), flag)
}

// refusedTarget is the error for a target that is understood and not allowed.
func refusedTarget(format string, args ...any) *bus.Error {
	e := bus.Errorf(bus.PermissionDenied, format, args...).With("field", fieldURI)
	e.Status = http.StatusUnprocessableEntity
	return e
}

// checkURL reads the URL of an http target. Its errors hold nothing of it but the host: users and paths may be secrets.
func (g *guard) checkURL(raw string) (*url.URL, error) {
	if len(raw) > MaxURI {
		return nil, invalid(fieldURI, "has %d characters: want at most %d", len(raw), MaxURI)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return nil, invalid(fieldURI, "is no URL: want http://host/path or https://host/path")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, invalid(fieldURI, "has the scheme %.20q: want http or https", u.Scheme)
	}
	if u.User != nil {
		return nil, invalid(fieldURI, "has a user or password: want a header instead, such as Authorization")
	}
	if err := checkHost(u.Hostname()); err != nil {
		return nil, err
	}
	if err := g.checkPort(portOf(u)); err != nil {
		return nil, err
	}
	return u, nil
}

// portOf is the port of an http URL. One that ends in a colon means the default, as in net/http.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// checkHost tells whether host can be a name or an address in full. Resolvers take some other forms for addresses: numbers, and
// characters that look like digits.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > maxHost {
		return invalid(fieldURI, "has a host of %d characters: want 1 to %d", len(host), maxHost)
	}
	if strings.Contains(host, "@") { // a password may be before it
		return invalid(fieldURI, "has a user or password")
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel {
			return invalid(fieldURI, "has the host %.80q: want labels of 1 to %d characters", host, maxLabel)
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return invalid(fieldURI, "has the host %.80q: character %d of label %.80q is not one of A-Z a-z 0-9 - _ (other scripts are written xn--...)", host, i, label)
			}
		}
	}
	last := labels[len(labels)-1]
	digits := strings.Trim(last, "0123456789") == ""
	hex := len(last) > 1 && strings.EqualFold(last[:2], "0x") && strings.Trim(last[2:], "0123456789abcdefABCDEF") == ""
	if digits || hex {
		return invalid(fieldURI, "has the host %.80q, which ends in a number: want a name, or an address in full", host)
	}
	return nil
}

func (g *guard) checkPort(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strings.Trim(port, "0123456789") != "" {
		return invalid(fieldURI, "has the port %.10q: want 1 to 65535", port)
	}
	if p := uint16(n); g.ports != nil && !slices.Contains(g.ports, p) || g.ports == nil && p != 80 && p != 443 && p < lowestOpenPort {
		return refusedTarget("port %d is not allowed: allow it by Config.AllowPorts (skybus: --allow-port %d) if timers may call it", p, p)
	}
	return nil
}

// checkTarget judges the addresses that host has now: an error where it has some and none of them may be called. A name that
// nobody knows may be known when the timer is due.
func (g *guard) checkTarget(ctx context.Context, host string) error {
	addrs := g.addresses(ctx, host)
	networks := make([]netip.Prefix, len(addrs))
	for i, addr := range addrs {
		p, refused := g.refuses(addr)
		if !refused {
			return nil
		}
		networks[i] = p
	}
	if len(addrs) == 0 {
		return nil
	}
	most := min(len(addrs), maxNamed)
	return refusedAddresses(addrs[:most], networks[:most])
}

func (g *guard) addresses(ctx context.Context, host string) []netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if addrs, ok := g.lookups.get(host); ok {
		return addrs
	}
	bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := g.resolver.LookupNetIP(bounded, "ip", host) // a nil resolver is the default one
	if err != nil && ctx.Err() != nil {
		return nil // says nothing of the name
	}
	g.lookups.put(host, addrs, lookupFresh)
	return addrs
}

// dialer dials what may be called.
func (g *guard) dialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, Resolver: g.resolver, ControlContext: g.control}
}

// control is called for each address on its way to be dialled, the resolver's own traffic excepted.
func (g *guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return refusedTarget("network %q is not allowed", network)
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return refusedTarget("address %q is not allowed", address)
	}
	if err := g.checkPort(strconv.Itoa(int(addr.Port()))); err != nil {
		return err
	}
	return g.refusal(addr.Addr())
}
