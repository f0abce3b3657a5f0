package main

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
)

// checkFlags refuses flags that mean nothing together.
func (c *callCmd) checkFlags() error {
	given := map[string]bool{
		"to-version": c.ToVersion != "", "to-instance": c.ToInstance != "", "to-region": c.ToRegion != "",
		"policy": c.Policy != "", "key": c.Key != "", "hedge": c.Hedge != 0,
		"idempotent": c.Idempotent, "once": c.Once, "trace": c.Trace, "all": c.All, "one-way": c.OneWay, "stream": c.Stream,
	}
	for _, rule := range []struct {
		flag string
		not  []string
	}{
		{"all", []string{"to-version", "to-instance", "to-region", "policy", "key", "hedge", "idempotent", "once", "trace", "stream"}},
		{"one-way", []string{"hedge", "idempotent", "once", "trace", "stream"}},
		{"stream", []string{"hedge", "idempotent", "once", "trace"}},
		{"once", []string{"hedge", "idempotent"}},
		{"to-instance", []string{"policy", "key"}},
	} {
		for _, other := range rule.not {
			if given[rule.flag] && given[other] {
				return usagef("--%s and --%s can't be used together", rule.flag, other)
			}
		}
	}
	switch {
	case c.Hedge < 0:
		return usagef("--hedge %v: want more than 0", c.Hedge)
	case c.Quiet < 0:
		return usagef("--quiet %v: want more than 0", c.Quiet)
	case c.Quiet > 0 && (!c.All || c.OneWay):
		return usagef("--quiet is for the answers to --all")
	case strings.HasSuffix(c.Policy, "-hash") && c.Key == "":
		return usagef("--policy %s: want a --key", c.Policy)
	}
	return nil
}

// resolve makes an id of the address of an instance, as listings print it.
func (c *callCmd) resolve(app *App) error {
	if !strings.HasPrefix(c.ToInstance, "skybus://") {
		return nil
	}
	address, err := bus.ParseAddress(c.ToInstance)
	if err != nil {
		return usagef("--to-instance: %s", message(err))
	}
	ns, err := app.namespace()
	if err != nil {
		return err
	}
	service, _, _ := strings.Cut(c.Target, ".")
	switch {
	case address.Namespace != ns:
		return withHint(usagef("--to-instance %s: its namespace is not %s", address, ns), "--namespace %s calls it", address.Namespace)
	case address.Service != service || address.Instance == "":
		return usagef("--to-instance %s: want an instance of %s", address, service)
	}
	c.ToInstance = address.Instance
	return nil
}

// options are the flags that the SDK has options for.
func (c *callCmd) options() ([]micro.CallOption, error) {
	var opts []micro.CallOption
	var err error
	if c.ToVersion != "" {
		opts, err = append(opts, micro.ToVersion(c.ToVersion)), bus.CheckVersion(c.ToVersion)
	}
	if c.ToInstance != "" {
		opts, err = append(opts, micro.ToInstance(c.ToInstance)), bus.CheckToken("instance", c.ToInstance)
	}
	if err != nil {
		return nil, usagef("%s", message(err))
	}
	if c.ToRegion != "" {
		opts = append(opts, micro.ToRegion(c.ToRegion))
	}
	if p := c.policy(); p != nil {
		opts = append(opts, micro.WithPolicy(p), micro.WithKey(c.Key))
	}
	if c.Hedge > 0 {
		opts = append(opts, micro.Hedge(c.Hedge))
	}
	headers := nats.Header{}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, usagef("--header %.80q: want name:value", h)
		}
		value = strings.TrimSpace(value)
		headers.Add(name, value)
		opts = append(opts, micro.WithHeader(name, value))
	}
	if err := bus.CheckHeader(headers); err != nil {
		return nil, usagef("--header: %s", message(err))
	}
	return opts, nil
}

func (c *callCmd) policy() balance.Policy {
	switch c.Policy {
	case "random":
		return balance.Random()
	case "nearest":
		return balance.Nearest(balance.Random())
	case "best-quality":
		return balance.BestQuality()
	case "mod-hash":
		return balance.ModHash()
	case "consistent-hash":
		return balance.ConsistentHash()
	}
	if c.Key != "" {
		return balance.ConsistentHash()
	}
	return nil
}

// connectJSON is Connect with JSON for what has no encoding of its own.
func (a *App) connectJSON(ctx context.Context) (*bus.Conn, error) {
	cfg, err := a.busConfig()
	if err != nil {
		return nil, err
	}
	cfg.Codec = bus.JSON{}
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	return bus.Connect(ctx, cfg)
}
