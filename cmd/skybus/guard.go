package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/skybus-io/skybus/scheduler"
)

// network is a network on the command line: 10.0.0.0/8, an address, or none.
type network struct{ netip.Prefix }

const noNetwork = "none"

// UnmarshalText reads it from a flag.
func (n *network) UnmarshalText(text []byte) error {
	s := string(text)
	if s == noNetwork {
		return nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		n.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%.40q: want a network such as 10.0.0.0/8, an address, or none", s)
	}
	n.Prefix = p.Masked()
	return nil
}

// guardFlags say what timers may call beside what anybody may.
type guardFlags struct {
	AllowNetwork  []network `help:"Network that is not public and that timers may call nevertheless, or none; may be repeated. Default: this machine itself, for skybus up only where nobody else can set timers; none for skybus scheduler." placeholder:"CIDR" group:"guard"`
	AllowPort     []uint16  `help:"Port that timers may call; may be repeated. Default: 80, 443 and those from 1024 on." placeholder:"PORT" group:"guard"`
	PublishPrefix []string  `help:"What subjects begin with that timers may publish to; may be repeated. Default: APP.ENV.pub." placeholder:"PREFIX" group:"guard"`
}

// loopbacks are the networks of this machine alone.
func loopbacks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// networks are those that were given, or else those of this machine where that is the default.
func (g *guardFlags) networks(local bool) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range g.AllowNetwork {
		if n.IsValid() {
			all = append(all, n.Prefix)
		}
	}
	if len(g.AllowNetwork) == 0 && local {
		return loopbacks()
	}
	return all
}

// prefixes are those that were given, each with the dot that ends its last token.
func (g *guardFlags) prefixes() []string {
	var all []string
	for _, p := range g.PublishPrefix {
		all = append(all, subjectPrefix(p))
	}
	return all
}

// subjectPrefix is a prefix as people write it, with the dot that ends its last token.
func subjectPrefix(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, ">"), ".") + "."
}

// config is that of a command which makes timers and delivers none. transports are those of the schedulers' own that its targets may
// name: what they take, only the schedulers know.
func (g *guardFlags) config(transports ...string) scheduler.Config {
	cfg := scheduler.Config{AllowNetworks: g.networks(true), AllowPorts: g.AllowPort, Publish: g.prefixes()}
	for _, name := range transports {
		switch name {
		case "", "http", "https", "nats", "call", "route", "tcp":
			continue
		}
		if cfg.Transports == nil {
			cfg.Transports = map[string]scheduler.Transport{}
		}
		cfg.Transports[name] = elsewhere{}
	}
	return cfg
}

// elsewhere is a transport that other processes have.
type elsewhere struct{}

var _ scheduler.Transport = elsewhere{}

// Check takes everything.
func (elsewhere) Check(context.Context, scheduler.Target) error { return nil }

// Deliver is not called.
func (elsewhere) Deliver(context.Context, *scheduler.Delivery) error {
	return errors.New("this process delivers nothing")
}
