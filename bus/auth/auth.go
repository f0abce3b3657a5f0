// Package auth makes the identities of NATS's operator mode: an operator, its accounts, and users of a [Role] each.
//
// An account isolates: nothing in it sees another account. Inside an account a role is a template of permissions, kept with
// the signing key of the role in the account; a user is signed with that key and carries no permissions of its own, only the
// names that the template is filled with: a namespace and services. To change a role is to change the account.
//
// # Secrets
//
// The only secret that leaves this package is that of a user, in [User.Creds], which is not stored anywhere. Keys of an
// operator or an account that must live longer than the process are the caller's: it makes them with nkeys, keeps their
// seeds and gives them in [OperatorConfig] and [AccountConfig]. Nothing here prints a secret, whatever the verb.
package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// maxName is the longest name of an operator, an account or a user, in bytes.
const maxName = 128

// OperatorConfig describes an operator. Name is required.
type OperatorConfig struct {
	// Name is for people.
	Name string
	// Key is the operator's identity, an operator key. It signs the operator's own token only, so it can be kept off line
	// once that is made. Nil means a new one.
	Key nkeys.KeyPair
	// SigningKey signs the accounts, an operator key too. Nil means a new one.
	SigningKey nkeys.KeyPair
	// SystemKey is the identity of the system account, and SystemSigningKey signs its users, both account keys. Nil means a
	// new one.
	SystemKey        nkeys.KeyPair
	SystemSigningKey nkeys.KeyPair
}

// Operator is who servers trust: they take the accounts it signed.
type Operator struct {
	name   string
	token  string
	signer nkeys.KeyPair
	system *Account
}

// NewOperator makes an operator and its system account.
func NewOperator(cfg OperatorConfig) (*Operator, error) {
	op, err := newOperator(cfg)
	if err != nil {
		return nil, fmt.Errorf("auth: new operator %q: %w", cfg.Name, err)
	}
	return op, nil
}

func newOperator(cfg OperatorConfig) (*Operator, error) {
	if err := checkName(cfg.Name); err != nil {
		return nil, err
	}
	key, id, err := keyOr(cfg.Key, nkeys.PrefixByteOperator)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, signerID, err := keyOr(cfg.SigningKey, nkeys.PrefixByteOperator)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	op := &Operator{name: cfg.Name, signer: signer}
	if op.system, err = op.newSystem(cfg); err != nil {
		return nil, err
	}
	claims := jwt.NewOperatorClaims(id)
	claims.Name = cfg.Name
	claims.SystemAccount = op.system.ID()
	if signerID != id {
		claims.SigningKeys.Add(signerID)
		claims.StrictSigningKeyUsage = true
	}
	if op.token, err = claims.Encode(key); err != nil {
		return nil, err
	}
	return op, nil
}

func (o *Operator) newSystem(cfg OperatorConfig) (*Account, error) {
	_, id, err := keyOr(cfg.SystemKey, nkeys.PrefixByteAccount)
	if err != nil {
		return nil, fmt.Errorf("system key: %w", err)
	}
	claims := jwt.NewAccountClaims(id)
	claims.Name = "SYS"
	a := &Account{name: claims.Name, id: id, roles: map[Role]nkeys.KeyPair{}}
	if err := a.addRole(claims, Admin, cfg.SystemSigningKey); err != nil {
		return nil, fmt.Errorf("system signing key: %w", err)
	}
	a.token, err = claims.Encode(o.signer)
	return a, err
}

// JWT is the operator's token, for the servers. It is no secret.
func (o *Operator) JWT() string { return o.token }

// System is the account of the servers' own messages. It has only the role [Admin].
func (o *Operator) System() *Account { return o.system }

// String names the operator.
func (o *Operator) String() string { return "operator " + o.name }

// ServerConfig is the part of a nats-server configuration that makes the server trust o and know accounts, in memory; what
// else the server needs, JetStream above all, stands beside it. It holds no secret.
func (o *Operator) ServerConfig(accounts ...*Account) string {
	var b strings.Builder
	fmt.Fprintf(&b, "operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n", o.token, o.system.id)
	for _, a := range append([]*Account{o.system}, accounts...) {
		fmt.Fprintf(&b, "  %s: %s\n", a.id, a.token)
	}
	b.WriteString("}\n")
	return b.String()
}

// keyOr is key, or a new one where it is nil, and its public part.
func keyOr(key nkeys.KeyPair, kind nkeys.PrefixByte) (nkeys.KeyPair, string, error) {
	if key == nil {
		var err error
		if key, err = nkeys.CreatePair(kind); err != nil {
			return nil, "", err
		}
	}
	id, err := key.PublicKey()
	if err != nil {
		return nil, "", err
	}
	if got := nkeys.Prefix(id); got != kind {
		return nil, "", fmt.Errorf("is of kind %v: want %v", got, kind)
	}
	return key, id, nil
}

// AccountConfig describes an account. Name is required. A limit of 0 is none.
type AccountConfig struct {
	// Name is for people.
	Name string
	// MaxStore and MaxMemory limit the streams on disk and in memory, in bytes. Skybus's own scale to MaxStore.
	MaxStore  int64
	MaxMemory int64
	// MaxStreams and MaxConsumers limit their numbers.
	MaxStreams   int64
	MaxConsumers int64
	// MaxConnections limits the connections at a time.
	MaxConnections int64
	// Key is the account's identity, an account key. Nil means a new one.
	Key nkeys.KeyPair
	// RoleKeys sign the users of each role, account keys. Roles without one get a new key.
	RoleKeys map[Role]nkeys.KeyPair
}

// Account is a NATS account: its users see nothing of other accounts.
type Account struct {
	name  string
	id    string
	token string
	roles map[Role]nkeys.KeyPair
}

// NewAccount makes an account with a signing key for every [Role].
func (o *Operator) NewAccount(cfg AccountConfig) (*Account, error) {
	a, err := o.newAccount(cfg)
	if err != nil {
		return nil, fmt.Errorf("auth: new account %q: %w", cfg.Name, err)
	}
	return a, nil
}

func (o *Operator) newAccount(cfg AccountConfig) (*Account, error) {
	if err := checkName(cfg.Name); err != nil {
		return nil, err
	}
	for role := range cfg.RoleKeys {
		if !slices.Contains(Roles(), role) {
			return nil, fmt.Errorf("key of role %q: want one of %q", role, Roles())
		}
	}
	_, id, err := keyOr(cfg.Key, nkeys.PrefixByteAccount)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	claims := jwt.NewAccountClaims(id)
	claims.Name = cfg.Name
	limits := &claims.Limits
	limits.JetStreamLimits = jwt.JetStreamLimits{}
	for _, l := range []struct {
		field string
		value int64
		to    *int64
	}{
		{"MaxStore", cfg.MaxStore, &limits.DiskStorage},
		{"MaxMemory", cfg.MaxMemory, &limits.MemoryStorage},
		{"MaxStreams", cfg.MaxStreams, &limits.Streams},
		{"MaxConsumers", cfg.MaxConsumers, &limits.Consumer},
		{"MaxConnections", cfg.MaxConnections, &limits.Conn},
	} {
		switch {
		case l.value < 0:
			return nil, fmt.Errorf("%s is %d: want 0, which is no limit, or more", l.field, l.value)
		case l.value == 0:
			*l.to = jwt.NoLimit
		default:
			*l.to = l.value
		}
	}
	a := &Account{name: cfg.Name, id: id, roles: map[Role]nkeys.KeyPair{}}
	for _, role := range Roles() {
		if err := a.addRole(claims, role, cfg.RoleKeys[role]); err != nil {
			return nil, fmt.Errorf("key of role %q: %w", role, err)
		}
	}
	if a.token, err = claims.Encode(o.signer); err != nil {
		return nil, err
	}
	return a, nil
}

// addRole adds the signing key of a role, which can sign nothing but users of that role.
func (a *Account) addRole(claims *jwt.AccountClaims, role Role, key nkeys.KeyPair) error {
	key, id, err := keyOr(key, nkeys.PrefixByteAccount)
	if err != nil {
		return err
	}
	scope := jwt.NewUserScope()
	scope.Key, scope.Role, scope.Template = id, string(role), role.template()
	claims.SigningKeys.AddScopedSigner(scope)
	a.roles[role] = key
	return nil
}

// ID is the account's public key, by which servers know it.
func (a *Account) ID() string { return a.id }

// JWT is the account's token, for the servers. It is no secret.
func (a *Account) JWT() string { return a.token }

// String names the account.
func (a *Account) String() string { return "account " + a.name + " " + a.id }

// roleNames are the roles that a can sign users of.
func (a *Account) roleNames() []Role { return slices.Sorted(maps.Keys(a.roles)) }

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name of %d bytes: want 1 to %d", len(name), maxName)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("name %q: want no control characters", name)
		}
	}
	return nil
}

// checkExpiry refuses what has passed already.
func checkExpiry(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		return fmt.Errorf("expires %v: want a time to come, or none", t)
	}
	return nil
}
