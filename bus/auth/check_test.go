package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/skybus-io/skybus/bus/auth"
)

func TestNewUserRefuses(t *testing.T) {
	t.Parallel()
	account := newAccount(t, newOperator(t), auth.AccountConfig{})
	long := strings.Repeat("x", 65)
	one := []string{"orders"}
	tests := []struct {
		name string
		cfg  auth.UserConfig
		want string
	}{
		{"no role", auth.UserConfig{App: "a", Env: "b"}, `role ""`},
		{"unknown role", auth.UserConfig{Role: "boss", App: "a", Env: "b"}, `"boss"`},
		{"no app", auth.UserConfig{Role: auth.Client, Env: "b"}, "app"},
		{"no env", auth.UserConfig{Role: auth.Client, App: "a"}, "env"},
		{"wildcard app", auth.UserConfig{Role: auth.Client, App: "*", Env: "b"}, "app"},
		{"wildcard env", auth.UserConfig{Role: auth.Client, App: "a", Env: ">"}, "env"},
		{"two tokens", auth.UserConfig{Role: auth.Client, App: "a.b", Env: "c"}, "app"},
		{"template", auth.UserConfig{Role: auth.Client, App: "{{name()}}", Env: "c"}, "app"},
		{"long env", auth.UserConfig{Role: auth.Client, App: "a", Env: long}, "65"},
		{"reserved app", auth.UserConfig{Role: auth.Client, App: "skybus", Env: "b"}, "reserved"},
		{"inboxes as an app", auth.UserConfig{Role: auth.Client, App: "_INBOX", Env: "b"}, "reserved"},
		{"service without services", auth.UserConfig{Role: auth.Service, App: "a", Env: "b"}, "at least one"},
		{"client with services", auth.UserConfig{Role: auth.Client, App: "a", Env: "b", Services: one}, "none"},
		{"wildcard service", auth.UserConfig{Role: auth.Service, App: "a", Env: "b", Services: []string{"*"}}, "service"},
		{"service of all", auth.UserConfig{Role: auth.Service, App: "a", Env: "b", Services: []string{"_"}}, "every one"},
		{"wildcard call", auth.UserConfig{Role: auth.Client, App: "a", Env: "b", Calls: []string{"*"}}, "service"},
		{"expired", auth.UserConfig{Role: auth.Client, App: "a", Env: "b", Expires: time.Now().Add(-time.Second)}, "to come"},
		{"timers of an agent", auth.UserConfig{Role: auth.Agent, App: "a", Env: "b", Timers: true}, "timers"},
		{"timers of an admin", auth.UserConfig{Role: auth.Admin, Timers: true}, "timers"},
		{"many shards", auth.UserConfig{Role: auth.Scheduler, App: "a", Env: "b", Shards: 65}, "65 shards"},
		{"shards of no timers", auth.UserConfig{Role: auth.Client, App: "a", Env: "b", Shards: 2}, "2 shards"},
		{"admin of one app", auth.UserConfig{Role: auth.Admin, App: "a"}, "kept to none"},
		{"name with a line", auth.UserConfig{Role: auth.Admin, Name: "a\nb"}, "control"},
		{"long name", auth.UserConfig{Role: auth.Admin, Name: strings.Repeat(long, 2)}, "130"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, err := account.NewUser(tt.cfg)
			if err == nil {
				t.Fatalf("made %v", u)
			}
			if !strings.HasPrefix(err.Error(), "auth: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: want %q in it", err, tt.want)
			}
		})
	}
}

func TestNewOperatorAndAccountRefuse(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	op := newOperator(t)
	for name, make := range map[string]func() error{
		"operator without a name":    func() error { _, err := auth.NewOperator(auth.OperatorConfig{}); return err },
		"operator of a user":         func() error { _, err := auth.NewOperator(auth.OperatorConfig{Name: "x", Key: user}); return err },
		"operator signed by a user":  func() error { _, err := auth.NewOperator(auth.OperatorConfig{Name: "x", SigningKey: user}); return err },
		"system account of a user":   func() error { _, err := auth.NewOperator(auth.OperatorConfig{Name: "x", SystemKey: user}); return err },
		"account without a name":     func() error { _, err := op.NewAccount(auth.AccountConfig{}); return err },
		"account of a user":          func() error { _, err := op.NewAccount(auth.AccountConfig{Name: "x", Key: user}); return err },
		"account of negative size":   func() error { _, err := op.NewAccount(auth.AccountConfig{Name: "x", MaxStore: -1}); return err },
		"key of a role nobody knows": func() error { return roleKey(op, "boss", user) },
		"role signed by a user":      func() error { return roleKey(op, auth.Client, user) },
	} {
		if err := make(); err == nil || !strings.HasPrefix(err.Error(), "auth: new ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func roleKey(op *auth.Operator, role auth.Role, key nkeys.KeyPair) error {
	_, err := op.NewAccount(auth.AccountConfig{Name: "x", RoleKeys: map[auth.Role]nkeys.KeyPair{role: key}})
	return err
}
