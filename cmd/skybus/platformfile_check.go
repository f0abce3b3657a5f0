package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// together holds the parts of a platform's file against each other, for who checks it. `skybus up` does not: flags and the environment may say something else
// than the file, and a gateway serves the other entries beside one that it cannot.
type together struct {
	*platformFile

	f        *yamlFile
	known    map[string]*kong.Flag // by the names that the file has for them
	ns       bus.Namespace
	external bool // somebody else's NATS server is used
}

func (t *together) check() {
	t.checkListeners()
	t.checkCredentials()
	t.checkSubjects()
	t.checkAddresses()
}

func (t *together) wrong(path, format string, args ...any) {
	t.f.mistake(t.f.lineOf(path), path, format, args...)
}

// text is what the file sets a flag to, or its default.
func (t *together) text(name string) string {
	flag := t.known[name]
	if v, ok := t.flags[flag.Name].(string); ok {
		return v
	}
	return flag.Default
}

// further are the listeners of the gateway that entries may name, with their addresses.
func (t *together) further() map[string]any {
	all, _ := t.flags["http-listener"].(map[string]any)
	return all
}

// checkListeners finds entries at listeners that there are not.
func (t *together) checkListeners() {
	further := t.further()
	there := "it defines none"
	if len(further) > 0 {
		there = "it defines " + strings.Join(slices.Sorted(maps.Keys(further)), ", ")
	}
	for _, e := range t.entries {
		name := e.entry.Listener
		if _, ok := further[name]; ok || name == "" || name == gateway.AllListeners {
			continue
		}
		t.wrong("gateway.entries."+e.name+".listener", "%q is no listener of http_listener (%s): add it there, as in http_listener: {%s: 127.0.0.1:8090}, or name one that is there",
			name, there, name)
	}
}

// checkCredentials finds what asks for credentials that the gateway does not take.
func (t *together) checkCredentials() {
	access, ok := t.accessThere()
	if !ok {
		return
	}
	const set = "set gateway.access (docs/gateway-auth.md) or access: FILE"
	for _, e := range t.entries {
		p, at := e.entry.Auth, "gateway.entries."+e.name+".auth"
		if p == nil || p.Anonymous {
			continue
		}
		if access.none() {
			t.wrong(at, "asks for a credential, and the gateway takes none, so nobody could use the entry: "+set+" with keys, jwt or mtls, or leave auth out")
		} else if len(p.Kinds) > 0 && !slices.ContainsFunc(p.Kinds, access.takes) {
			t.wrong(at+".kinds", "the gateway takes none of these: "+set+" with %s, or name kinds that it takes", strings.Join(settingsOf(p.Kinds), " or "))
		}
	}
	if access.MTLS != nil && t.text("http_client_ca") == "" {
		at := "gateway.access.mtls"
		if t.text("access") != "" {
			at = "access"
		}
		t.wrong(at, "takes client certificates (mtls), and nobody is asked for one: set http_client_ca, with http_tls_cert and http_tls_key, or leave mtls out")
	}
}

// takes tells whether credentials of a kind are taken.
func (a *gatewayAccess) takes(kind auth.Kind) bool {
	switch kind {
	case auth.APIKey:
		return a.Keys != nil
	case auth.Token:
		return len(a.JWT) > 0
	case auth.Certificate:
		return a.MTLS != nil
	case auth.Anonymous:
	}
	return false
}

// settingsOf are the fields by which credentials of those kinds are taken.
func settingsOf(kinds []auth.Kind) []string {
	names := map[auth.Kind]string{auth.APIKey: "keys", auth.Token: "jwt", auth.Certificate: "mtls"}
	var all []string
	for _, k := range kinds {
		all = append(all, names[k])
	}
	return all
}

// accessThere is who may use the gateway. It is not ok where that stands in a file which is not there, or cannot be read.
func (t *together) accessThere() (a gatewayAccess, ok bool) {
	name := t.text("access")
	if name == "" {
		if t.access != nil {
			a = *t.access
		}
		return a, !t.accessWrong
	}
	data, err := readSettings(name, maxAccessFile)
	if err == nil {
		a, err = parseAccess(name, data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be there where the platform runs
		t.wrong("access", "%s", message(err))
	}
	return a, err == nil
}

// checkSubjects finds subjects that nothing may be published to.
func (t *together) checkSubjects() {
	given, _ := t.flags["publish-prefix"].([]any)
	guard := guardFlags{}
	for _, p := range given {
		guard.PublishPrefix = append(guard.PublishPrefix, fmt.Sprint(p))
	}
	own := guard.prefixes()
	for _, e := range t.entries {
		at := "gateway.entries." + e.name
		if e.entry.Path == "" { // it has mistakes of its own
			continue
		}
		t.checkSubject(at, e.entry.CheckSubject(t.ns, own), "publish_prefix")
		t.checkTimer(at, e.entry.Timer, own)
	}
	if t.tcp != nil {
		for i, l := range t.tcp.Listeners {
			at := fmt.Sprintf("tcp.listeners[%d].target", i)
			t.checkSubject(at, soundSubject(l.Target, t.ns, t.tcp.PublishPrefixes), "tcp.publish_prefixes")
			t.checkTimer(at, l.Target.Timer, own)
		}
	}
	if t.files != nil {
		for i, s := range t.files.Sources {
			at := fmt.Sprintf("files.sources[%d].target", i)
			t.checkSubject(at, soundSubject(s.Target, t.ns, t.files.PublishPrefixes), "files.publish_prefixes")
			t.checkTimer(at, s.Target.Timer, own)
		}
	}
}

// soundSubject is what is wrong with the prefix of a target's subject. What else is wrong with it was told before.
func soundSubject(s initiators.Spec, ns bus.Namespace, prefixes []string) error {
	if err := s.Validate(); err == nil {
		return s.CheckSubject(ns, prefixes)
	}
	return nil
}

func (t *together) checkSubject(at string, err error, setting string) {
	if err == nil {
		return
	}
	field := bus.AsError(err).Details["field"]
	t.wrong(at+"."+field, "%s: allow another by %s, or change the subject", strings.TrimPrefix(message(err), field+": "), setting)
}

// checkTimer finds a timer that publishes to a subject which the scheduler refuses. What begins with a placeholder may become anything.
func (t *together) checkTimer(at string, timer *initiators.TimerSpec, prefixes []string) {
	if timer == nil {
		return
	}
	subject, ok := strings.CutPrefix(timer.Target, "nats://")
	fixed, _, _ := strings.Cut(subject, "{")
	if len(prefixes) == 0 {
		prefixes = []string{t.ns.String() + ".pub."}
	}
	if !ok || slices.ContainsFunc(prefixes, func(p string) bool {
		return strings.HasPrefix(fixed, p) || fixed != subject && strings.HasPrefix(p, fixed)
	}) {
		return
	}
	t.wrong(at+".timer.target", "subject %.80q: timers publish below %s only: allow another by publish_prefix, or change the subject", subject, strings.Join(prefixes, " and "))
}

// address is one that the platform listens at.
type address struct{ path, addr string }

// checkAddresses finds addresses that are there twice: the second listener could not be had.
func (t *together) checkAddresses() {
	all := t.addresses()
	for i, a := range all {
		for _, other := range all[:i] {
			if !sameAddress(a.addr, other.addr) || bothOf("tcp.listeners[", a.path, other.path) {
				continue
			}
			at, there := a, other
			if t.f.lineOf(at.path) == 0 { // it is a default
				at, there = there, at
			}
			who, why := there.path, ", by default"
			if line := t.f.lineOf(there.path); line > 0 {
				who, why = fmt.Sprintf("%s (line %d)", there.path, line), ""
			}
			if t.f.lineOf(at.path) > 0 {
				t.wrong(at.path, "%s is where %s listens already%s: give one of them another port", at.addr, who, why)
			}
		}
	}
}

// bothOf tells whether both paths begin with a part of the file that was checked by itself.
func bothOf(part, a, b string) bool { return strings.HasPrefix(a, part) && strings.HasPrefix(b, part) }

// addresses are all that the platform listens at, also those that the file does not say.
func (t *together) addresses() []address {
	all := []address{{"http", t.text("http")}, {"timers", t.text("timers")}, {"admin", t.text("admin")}}
	if !t.external {
		all = append(all, address{"nats", t.text("nats")})
	}
	further := t.further()
	for _, name := range slices.Sorted(maps.Keys(further)) {
		all = append(all, address{"http_listener." + name, fmt.Sprint(further[name])})
	}
	if m := t.mirror; m != nil {
		for _, a := range []struct{ path, addr, or string }{{"mirror.http", m.HTTP, defaultMirror}, {"mirror.admin", m.Admin, defaultMirrorAdmin}} {
			if a.addr == "" {
				a.addr = a.or
			}
			if a.addr != noListener {
				all = append(all, address{a.path, a.addr})
			}
		}
	}
	if t.tcp != nil {
		for i, l := range t.tcp.Listeners {
			all = append(all, address{fmt.Sprintf("tcp.listeners[%d].listen", i), l.Listen})
		}
	}
	return all
}

// sameAddress tells whether only one of two listeners could have its address: they have the same port, and one of them takes what the other asks for.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(withHost(a))
	hostB, portB, errB := net.SplitHostPort(withHost(b))
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	ipA, ipB := addrOf(hostA), addrOf(hostB)
	if !ipA.IsValid() || !ipB.IsValid() {
		return strings.EqualFold(hostA, hostB)
	}
	return ipA == ipB || ipA.IsUnspecified() || ipB.IsUnspecified() // which takes IPv4 and IPv6
}

// addrOf is the address of a host that needs nobody to be asked; none of another.
func addrOf(host string) netip.Addr {
	if strings.EqualFold(host, "localhost") {
		host = loopbackHost
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}
