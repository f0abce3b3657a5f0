package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/config"
)

// configScope says for whom a value is meant.
type configScope struct {
	Service    string `help:"For this service only. Default: for all." placeholder:"NAME"`
	ForVersion string `help:"For this version of the service only. Default: for all." placeholder:"VERSION"`
}

// pattern matches the values of the scope: of all services and versions where none is named.
func (s configScope) pattern(app *App) (bus.Namespace, string, error) {
	ns, err := app.namespace()
	if err != nil {
		return ns, "", err
	}
	if err := s.check(); err != nil {
		return ns, "", err
	}
	switch {
	case s.ForVersion != "":
		return ns, ns.Key(s.Service, bus.VersionToken(s.ForVersion), ">"), nil
	case s.Service != "":
		return ns, ns.Key(s.Service, "*", ">"), nil
	}
	return ns, ns.Key(">"), nil
}

// check names the flag that is wrong.
func (s configScope) check() error {
	if err := (config.Scope{Service: s.Service}).Check(); err != nil {
		return usagef("--service: %s", message(err))
	}
	if s.Service == "" && s.ForVersion != "" {
		return usagef("--for-version needs --service: a version is one of a service")
	}
	if err := s.scope().Check(); err != nil {
		return usagef("--for-version: %s", message(err))
	}
	return nil
}

func (s configScope) scope() config.Scope {
	return config.Scope{Service: s.Service, Version: s.ForVersion}
}

// String is the scope in words.
func (s configScope) String() string {
	switch {
	case s.ForVersion != "":
		return fmt.Sprintf("for version %s of service %q", s.ForVersion, s.Service)
	case s.Service != "":
		return fmt.Sprintf("for service %q", s.Service)
	}
	return "for all services"
}

// flags is the scope as it is typed, with a space in front.
func (s configScope) flags() string {
	flags := ""
	if s.Service != "" {
		flags += " --service " + s.Service
	}
	if s.ForVersion != "" {
		flags += " --for-version " + s.ForVersion
	}
	return flags
}

// configKey is a key and its scope, for the commands about one value.
type configKey struct {
	Key string `arg:"" help:"Key, such as log.level."`
	configScope
}

// bucketKey is the key in the bucket.
func (k configKey) bucketKey(app *App) (string, error) {
	ns, err := app.namespace()
	if err != nil {
		return "", err
	}
	if err := k.check(); err != nil {
		return "", err
	}
	key, err := config.BucketKey(ns, k.scope(), k.Key)
	if err != nil {
		return "", usagef("%s", message(err))
	}
	return key, nil
}

// row is a revision of the value as it is printed.
func (k configKey) row(e kv.Entry[[]byte]) configRow { return configRowOf(k.scope(), k.Key, e) }

// with opens the configuration for f, which is given the key in the bucket. What is wrong with the key is known before. With
// bind, a configuration that was never written is not created to look into it.
func (k configKey) with(ctx context.Context, app *App, bind bool, f func(context.Context, *kv.Table[[]byte], string) error) error {
	key, err := k.bucketKey(app)
	if err != nil {
		return err
	}
	return k.explain(app.withConfig(ctx, bind, func(ctx context.Context, table *kv.Table[[]byte]) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		return f(ctx, table, key)
	}))
}

// explain says in the words of the command line what is wrong with a key of the bucket.
func (k configKey) explain(err error) error {
	now := fmt.Sprintf("`skybus config get %s%s -o json` shows what is there now", k.Key, k.flags())
	switch {
	case errors.Is(err, kv.ErrNotFound), errors.Is(err, kv.ErrNoBucket):
		return withHint(bus.Wrap(bus.NotFound, fmt.Sprintf("%q is not set %s", k.Key, k), err), "`skybus config` lists what is set, and where")
	case errors.Is(err, kv.ErrConflict):
		return withHint(bus.Wrap(bus.Aborted, fmt.Sprintf("%q %s has another revision: somebody changed it", k.Key, k), err), "%s", now)
	case errors.Is(err, kv.ErrExists):
		return withHint(bus.Wrap(bus.AlreadyExists, fmt.Sprintf("%q is set already %s", k.Key, k), err), "%s", now)
	}
	if ke, ok := errors.AsType[*kv.KeyError](err); ok {
		return bus.Wrap(bus.CodeOf(err), fmt.Sprintf("%q: %v", k.Key, ke.Err), err)
	}
	return err
}
