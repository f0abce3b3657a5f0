package auth

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

const (
	maxToken      = 64 // bytes of a subject's token that comes from a user
	defaultShards = 4  // as package scheduler has them
	maxShards     = 64
)

// UserConfig describes a user. Role is required; App and Env are too, but for an [Admin], and Services for a [Service].
type UserConfig struct {
	// Name is for people: it stands in errors and in the server's monitoring. Empty means the first service, else the role.
	Name string
	Role Role
	// App and Env are the namespace that the user is kept to.
	App string
	Env string
	// Services are those that the user serves.
	Services []string
	// Calls are the services that the user may call; routers are the service "route". Empty means all of its namespace; its
	// own service alone means no other.
	Calls []string
	// Timers lets a [Client], a [Service] or a [Gateway] set, find and change the timers of its namespace; a [Scheduler] may anyway. Give it to whom
	// you trust with all timers of the account: see [Role.Permissions].
	Timers bool
	// Shards is how many streams the account's timers are spread over, for who may set timers. 0 means 4; at most 64.
	Shards int
	// Streams are JetStream streams whose messages a [Gateway] may give out as events. It may read all of them, and make consumers there.
	Streams []string
	// Expires is when the servers close the user's connections and let it in no more. Zero means never.
	Expires time.Time
}

// User is what somebody logs in as. Printed, it shows no secret.
type User struct {
	name  string
	role  Role
	id    string
	creds []byte
}

// NewUser makes a user with a key of its own. Names keep their case: NATS tools that lower the case of tags when they copy a
// user make another one of it.
func (a *Account) NewUser(cfg UserConfig) (User, error) {
	u, err := a.newUser(cfg)
	if err != nil {
		return User{}, fmt.Errorf("auth: new user of role %q: %w", cfg.Role, err)
	}
	return u, nil
}

func (a *Account) newUser(cfg UserConfig) (User, error) {
	signer, ok := a.roles[cfg.Role]
	if !ok {
		return User{}, fmt.Errorf("account %q has no such role: want one of %q", a.name, a.roleNames())
	}
	if err := cfg.check(); err != nil {
		return User{}, err
	}
	u := User{name: cfg.name(), role: cfg.Role}
	if err := checkName(u.name); err != nil {
		return User{}, err
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return User{}, err
	}
	defer key.Wipe()
	if u.id, err = key.PublicKey(); err != nil {
		return User{}, err
	}
	claims := jwt.NewUserClaims(u.id)
	claims.SetScoped(true)
	claims.Name, claims.IssuerAccount, claims.Tags = u.name, a.id, cfg.tags()
	if !cfg.Expires.IsZero() {
		claims.Expires = cfg.Expires.Unix()
	}
	token, err := claims.Encode(signer)
	if err != nil {
		return User{}, err
	}
	seed, err := key.Seed()
	if err != nil {
		return User{}, err
	}
	defer clear(seed)
	u.creds, err = jwt.FormatUserConfig(token, seed)
	return u, err
}

// timers tells whether the user may set timers.
func (cfg UserConfig) timers() bool { return cfg.Timers || cfg.Role == Scheduler }

func (cfg UserConfig) name() string {
	switch {
	case cfg.Name != "":
		return cfg.Name
	case len(cfg.Services) > 0:
		return cfg.Services[0]
	}
	return string(cfg.Role)
}

// check refuses what would fill a template with more than one name, or with that of something else.
func (cfg UserConfig) check() error {
	if err := checkExpiry(cfg.Expires); err != nil {
		return err
	}
	if cfg.Timers && !slices.Contains([]Role{Client, Service, Gateway}, cfg.Role) {
		return fmt.Errorf("timers are given: that is for the roles %q, %q and %q", Client, Service, Gateway)
	}
	if cfg.Shards < 0 || cfg.Shards > maxShards || cfg.Shards > 0 && !cfg.timers() {
		return fmt.Errorf("%d shards are given: want at most %d, for who may set timers", cfg.Shards, maxShards)
	}
	if err := cfg.checkStreams(); err != nil {
		return err
	}
	if cfg.Role == Admin {
		if cfg.App != "" || cfg.Env != "" || len(cfg.Services)+len(cfg.Calls) > 0 {
			return errors.New("app, env, services and calls are given: this role is kept to none")
		}
		return nil
	}
	if err := errors.Join(checkToken("app", cfg.App), checkToken("env", cfg.Env)); err != nil {
		return err
	}
	if slices.Contains([]string{"skybus", "_INBOX", "_R_"}, cfg.App) {
		return fmt.Errorf("app %q is reserved", cfg.App)
	}
	if serves := len(cfg.Services) > 0; serves != (cfg.Role == Service) {
		return fmt.Errorf("%d services are given: want at least one for the role %q and none for others", len(cfg.Services), Service)
	}
	if cfg.Role == Agent && len(cfg.Calls) > 0 {
		return fmt.Errorf("%d calls are given: the role %q calls nobody", len(cfg.Calls), Agent)
	}
	for _, name := range slices.Concat(cfg.Services, cfg.Calls) {
		if err := checkToken("service", name); err != nil {
			return err
		}
		if name == "_" {
			return errors.New(`service "_" stands for every one: want a name`)
		}
	}
	return nil
}

// checkStreams refuses those of NATS and skybus, which hold what is not for clients of a gateway.
func (cfg UserConfig) checkStreams() error {
	if len(cfg.Streams) > 0 && cfg.Role != Gateway {
		return fmt.Errorf("%d streams are given: that is for the role %q", len(cfg.Streams), Gateway)
	}
	for _, name := range cfg.Streams {
		if err := checkToken("stream", name); err != nil {
			return err
		}
		for _, prefix := range []string{"KV_", "OBJ_", "SKYBUS_"} {
			if strings.HasPrefix(name, prefix) {
				return fmt.Errorf("stream %q: those that begin with %s are not given", name, prefix)
			}
		}
	}
	return nil
}

// tags are added without the jwt package's help, which would lower their case.
func (cfg UserConfig) tags() jwt.TagList {
	tags := jwt.TagList{"role:" + string(cfg.Role)}
	if cfg.Role == Admin {
		return tags
	}
	tags = append(tags, "app:"+cfg.App, "env:"+cfg.Env)
	if cfg.timers() {
		tags = append(tags, "timers:tmr", "event:timer", "account:INFO")
		for shard := range cmp.Or(cfg.Shards, defaultShards) {
			tags = append(tags, fmt.Sprintf("shard:SKYBUS_TMR_%d", shard))
		}
	}
	for _, name := range cfg.Services {
		tags = append(tags, "svc:"+name)
	}
	for _, name := range cfg.Streams {
		tags = append(tags, "stream:"+name)
	}
	switch cfg.Role {
	case Agent:
		return tags
	case Router:
		tags = append(tags, "svc:"+routerService)
	default:
	}
	for _, name := range cfg.Calls {
		tags = append(tags, "call:"+name)
	}
	if len(cfg.Calls) == 0 {
		tags = append(tags, "call:*")
	}
	return tags
}

// ID is the user's public key. Its inboxes begin with _INBOX.<id>., which connections of package bus use by themselves and
// others are told with nats.CustomInboxPrefix("_INBOX." + id).
func (u User) ID() string { return u.id }

// Creds is the text of a credentials file, with the user's token and its secret key; [nats.UserCredentialBytes] takes it
// too. Nobody can make it again: keep it where only the user's programs read.
//
// [nats.UserCredentialBytes]: https://pkg.go.dev/github.com/nats-io/nats.go#UserCredentialBytes
func (u User) Creds() []byte { return slices.Clone(u.creds) }

// String names the user.
func (u User) String() string { return fmt.Sprintf("user %s (role %s) %s", u.name, u.role, u.id) }

// Format writes [User.String] whatever the verb, lest %v of a struct prints the secret in it.
func (u User) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, u.String()) // fmt.State has nobody to tell
}

func checkToken(field, value string) error {
	if value == "" || len(value) > maxToken {
		return fmt.Errorf("%s of %d characters: want 1 to %d", field, len(value), maxToken)
	}
	for _, r := range value {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (r < '0' || r > '9') && r != '_' && r != '-' {
			return fmt.Errorf("%s %q: want A-Z a-z 0-9 _ - only", field, value)
		}
	}
	return nil
}
