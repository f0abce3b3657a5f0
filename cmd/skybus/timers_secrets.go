package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

type timersSecretsCmd struct {
	Ls     secretsLsCmd     `cmd:"" default:"withargs" help:"List the secrets, without their keys."`
	New    secretsNewCmd    `cmd:"" help:"Make a secret, and print its key: once."`
	Rotate secretsRotateCmd `cmd:"" help:"Replace the key of a secret; the old one signs beside it for a while."`
	Rm     secretsRmCmd     `cmd:"" help:"Remove a secret."`
}

type secretsLsCmd struct{}

// Help is shown below the usage.
func (*secretsLsCmd) Help() string {
	return `Examples:

    skybus timers secrets
    skybus timers secrets -o json`
}

// Run lists the secrets.
func (c *secretsLsCmd) Run(ctx context.Context, app *App) error {
	var list []scheduler.SecretInfo
	err := app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) (err error) {
		list, err = secrets(ctx, app, s)
		return err
	})
	if err != nil && !errors.Is(err, errNoTimers) {
		return err
	}
	if len(list) == 0 {
		app.noteNone("secrets")
	}
	return printList(app, list, []string{"secret", "keys", "kind", "created", "old keys until"}, func(i scheduler.SecretInfo) []any {
		kind, until := "", ""
		for n, k := range i.Keys {
			if n == 0 {
				kind = k.Kind
			}
			if !k.Expires.IsZero() {
				until = k.Expires.Local().Format(time.DateTime)
			}
		}
		return []any{i.Name, len(i.Keys), kind, i.Created.Local().Format(time.DateTime), until}
	})
}

func secrets(ctx context.Context, app *App, s *scheduler.Scheduler) ([]scheduler.SecretInfo, error) {
	ctx, cancel := app.withTimeout(ctx)
	defer cancel()
	var list []scheduler.SecretInfo
	for info, err := range s.Secrets().List(ctx) {
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// keyFlags say what the key is. It is never an argument: others could read it there.
type keyFlags struct {
	Name  string `arg:"" help:"Name of the secret, which timers are made with (--secret)."`
	Kind  string `help:"Kind of the key: v1 (HMAC-SHA256, both sides have it) or v1a (Ed25519, the receiver has the public one)." enum:"v1,v1a" default:"v1" env:"-"`
	Stdin bool   `help:"Read the key, whsec_... or whsk_..., from standard input in place of making one." env:"-"`
}

// key is a key to store, and what its receiver needs, empty where that is known.
func (c *keyFlags) key(ctx context.Context, app *App) (key webhook.Secret, receiver string, err error) {
	if !c.Stdin {
		if c.Kind == "v1a" {
			key, receiver = webhook.NewKeyPair()
			return key, receiver, nil
		}
		key = webhook.NewSecret()
		return key, string(key), nil
	}
	text, err := app.input(ctx, "-")
	if err != nil {
		return "", "", err
	}
	key = webhook.Secret(strings.TrimSpace(string(text)))
	if _, err := webhook.NewSigner(string(key)); err != nil {
		return "", "", usagef("standard input: %s", message(err))
	}
	if public, err := webhook.PublicKey(key); err == nil {
		receiver = public
	}
	return key, receiver, nil // who gave a v1 key has it
}

// store stores the key and prints what the receiver needs.
func (c *keyFlags) store(ctx context.Context, app *App, rotate bool, keep time.Duration) error {
	if err := bus.CheckToken("secret", c.Name); err != nil {
		return usagef("%s", message(err))
	}
	key, receiver, err := c.key(ctx, app)
	if err != nil {
		return err
	}
	return app.withTimers(ctx, scheduler.Config{}, func(ctx context.Context, s *scheduler.Scheduler) error {
		list, err := secrets(ctx, app, s)
		if err != nil {
			return err
		}
		there := false
		for _, info := range list {
			there = there || info.Name == c.Name
		}
		switch {
		case there && !rotate:
			return withHint(bus.Errorf(bus.AlreadyExists, "there is a secret %q already", c.Name), "`skybus timers secrets rotate %s` replaces its key", c.Name)
		case !there && rotate:
			return secretHint(bus.Errorf(bus.NotFound, "there is no secret %q", c.Name))
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		info, err := s.Secrets().Put(ctx, c.Name, key, keep)
		if err != nil {
			return err
		}
		return c.print(app, info, receiver)
	})
}

func (c *keyFlags) print(app *App, info scheduler.SecretInfo, receiver string) error {
	v := struct {
		scheduler.SecretInfo
		Key string `json:"key,omitempty"`
	}{info, receiver}
	rows := [][]any{{"secret", info.Name}, {"keys that sign", len(info.Keys)}}
	if receiver != "" {
		rows = append(rows, []any{"key for the receiver", receiver})
	}
	if err := printOne(app, v, rows); err != nil {
		return err
	}
	if strings.HasPrefix(receiver, "whsec_") {
		app.note("keep the key: it is not shown again")
	}
	return nil
}

func secretHint(err error) error {
	if bus.CodeOf(err) == bus.NotFound {
		return withHint(err, "`skybus timers secrets` lists them, `skybus timers secrets new NAME` makes one")
	}
	return err
}

type secretsNewCmd struct{ keyFlags }

// Help is shown below the usage.
func (*secretsNewCmd) Help() string {
	return `Requests of timers that were made with --secret NAME are signed as Standard Webhooks 1.0 says. The receiver needs the key that is
printed, and a library of that standard: in Go the package scheduler/webhook. Of a v1a key only the public half is ever shown.

Examples:

    skybus timers secrets new billing
    skybus timers secrets new billing --kind v1a -o json
    skybus timers secrets new billing --stdin < key.txt`
}

// Run makes a secret.
func (c *secretsNewCmd) Run(ctx context.Context, app *App) error { return c.store(ctx, app, false, 0) }

type secretsRotateCmd struct {
	keyFlags

	Keep time.Duration `help:"How long the keys that were there go on to sign beside the new one; 0s ends them at once." default:"24h" env:"-"`
}

// Help is shown below the usage.
func (*secretsRotateCmd) Help() string {
	return `While both sign, a request carries the signatures of both, and a receiver that knows either believes it.

Examples:

    skybus timers secrets rotate billing
    skybus timers secrets rotate billing --keep 1h`
}

// Run replaces the key.
func (c *secretsRotateCmd) Run(ctx context.Context, app *App) error {
	keep := c.Keep
	if keep <= 0 {
		keep = -1
	}
	return c.store(ctx, app, true, keep)
}

type secretsRmCmd struct {
	Name string `arg:"" help:"Name of the secret."`
	Yes  bool   `short:"y" help:"Do not ask." env:"-"`
}

// Help is shown below the usage.
func (*secretsRmCmd) Help() string {
	return `Deliveries that are to be signed with it fail from then on, and are tried again as their timers say.

Examples:

    skybus timers secrets rm billing --yes`
}

// Run removes a secret.
func (c *secretsRmCmd) Run(ctx context.Context, app *App) error {
	if err := bus.CheckToken("secret", c.Name); err != nil {
		return usagef("%s", message(err))
	}
	if err := app.confirm(ctx, c.Yes, "the secret "+c.Name+" and its keys will be removed"); err != nil {
		return err
	}
	err := app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		return s.Secrets().Remove(ctx, c.Name)
	})
	if errors.Is(err, errNoTimers) {
		err = bus.Wrap(bus.NotFound, "there is no secret "+c.Name, err)
	}
	if err != nil {
		return secretHint(err)
	}
	return printOne(app, map[string]string{"removed": c.Name}, [][]any{{"removed", c.Name}})
}
