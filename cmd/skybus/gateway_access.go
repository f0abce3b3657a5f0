package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/limit"
)

const maxAccessFile = 1 << 20

// gatewayAccess says who may use a gateway, as its file does.
type gatewayAccess struct {
	auth.Config

	// Policy is what is asked for where an entry does not say; nil means any credential, if some are taken.
	Policy *auth.Policy `json:"policy,omitempty"`
	// Rates are those of all that the gateway serves, beside those of entries.
	Rates *limit.Whole `json:"rates,omitempty"`
	// Call is about endpoints that are called by their names, and about what tells of them.
	Call *callAccess `json:"call,omitempty"`
	// TrustedProxies are addresses and networks whose X-Forwarded-For is believed.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`
}

// callAccess says who may call endpoints by their names, and how often; nil means what holds for the whole gateway.
type callAccess struct {
	Auth   *auth.Policy  `json:"auth,omitempty"`
	Limits *limit.Limits `json:"limits,omitempty"`
}

// none tells whether no credential is taken.
func (a *gatewayAccess) none() bool { return a.Keys == nil && len(a.JWT) == 0 && a.MTLS == nil }

// validate finds what is wrong with it, without looking at files or servers. The error begins with the field.
func (a *gatewayAccess) validate() error {
	if err := a.Validate(); err != nil {
		return err
	}
	if p := a.Policy; p != nil {
		if err := p.Validate(); err != nil {
			return bus.Errorf(bus.InvalidArgument, "policy.%s", strings.TrimPrefix(bus.AsError(err).Message, "auth."))
		}
		if a.none() && !p.Anonymous {
			return bus.Errorf(bus.InvalidArgument, "policy: it asks for a credential, and none is taken: want keys, jwt or mtls, or anonymous")
		}
	}
	if a.Rates != nil {
		if err := a.Rates.Validate("rates."); err != nil {
			return err
		}
	}
	if err := a.validateCall(); err != nil {
		return err
	}
	_, err := limit.ParseProxies("trusted_proxies", a.TrustedProxies)
	return err
}

func (a *gatewayAccess) validateCall() error {
	if a.Call == nil {
		return nil
	}
	if err := (gateway.CallConfig{Auth: a.Call.Auth, Limits: a.Call.Limits}).Validate(); err != nil {
		return bus.Errorf(bus.InvalidArgument, "call.%s", bus.AsError(err).Message)
	}
	if p := a.Call.Auth; p != nil && a.none() && !p.Anonymous {
		return bus.Errorf(bus.InvalidArgument, "call.auth: it asks for a credential, and none is taken: want keys, jwt or mtls, or anonymous")
	}
	return nil
}

// readAccess reads who may use the gateway. The empty name is no file: everybody may.
func readAccess(name string) (gatewayAccess, error) {
	if name == "" {
		return gatewayAccess{}, nil
	}
	data, err := readSettings(name, maxAccessFile)
	if err != nil {
		return gatewayAccess{}, usagef("--access: %v", err)
	}
	a, err := parseAccess(name, data)
	if err != nil {
		return a, usagef("%s", message(err))
	}
	a.relativeTo(filepath.Dir(name))
	return a, nil
}

// relativeTo takes files for those of a directory, where they do not say.
func (a *gatewayAccess) relativeTo(dir string) {
	for i := range a.JWT {
		if file := &a.JWT[i].File; *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
}

// parseAccess reads it from YAML, of which JSON is a part. Mistakes are told with their lines and fields.
func parseAccess(file string, data []byte) (gatewayAccess, error) {
	f := entryFile{yamlFile: yamlFile{what: "list of who may use a gateway"}}
	var a gatewayAccess
	if body := f.read(data); body != nil {
		a = f.access(body)
	}
	return a, f.err(file)
}

// access reads and validates who may use a gateway.
func (f *entryFile) access(body ast.Node) (a gatewayAccess) {
	v := f.decode("", body, reflect.TypeFor[gatewayAccess]())
	if len(f.mistakes) > 0 {
		return a
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err == nil {
		err = a.validate()
	}
	if err != nil {
		field, why, ok := strings.Cut(bus.AsError(err).Message, ": ")
		if !ok || f.lineOf(field) == 0 {
			field, why = "", bus.AsError(err).Message
		}
		f.mistake(f.lineOf(field), field, "%s", why)
	}
	return a
}

// admit makes the gateway hold requests against what the file of --access says.
func (c *gatewayFlags) admit(ctx context.Context, p *platform, cfg *gateway.Config) error {
	a := c.access
	cfg.Policy, cfg.TrustedProxies = a.Policy, a.TrustedProxies
	if a.Rates != nil {
		cfg.Rates = *a.Rates
	}
	if a.Call != nil {
		cfg.Call.Auth, cfg.Call.Limits = a.Call.Auth, a.Call.Limits
	}
	if a.none() {
		return nil
	}
	guard, err := auth.Open(ctx, p.conn, a.Config, auth.Options{Logger: p.conn.Logger()})
	if err != nil {
		return withHint(err, "%s says who may use the gateway; API keys take the bucket that `skybus keys new` makes, with an admin's login", c.Access)
	}
	p.onClose(guard.Close)
	cfg.Guard = guard
	return nil
}
