package auth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) { bustest.Main(m) }

func newOperator(t testing.TB) *auth.Operator {
	t.Helper()
	op, err := auth.NewOperator(auth.OperatorConfig{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func newAccount(t testing.TB, op *auth.Operator, cfg auth.AccountConfig) *auth.Account {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "shop"
	}
	a, err := op.NewAccount(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newUser(t testing.TB, a *auth.Account, cfg auth.UserConfig) auth.User {
	t.Helper()
	if cfg.Role != auth.Admin && cfg.App == "" {
		cfg.App, cfg.Env = "shop", "prod"
	}
	u, err := a.NewUser(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// start starts a server that trusts op.
func start(t testing.TB, op *auth.Operator, accounts ...*auth.Account) *bustest.Node {
	t.Helper()
	claims, err := jwt.DecodeOperatorClaims(op.JWT())
	if err != nil {
		t.Fatal(err)
	}
	// Over TCP, because a server within the process takes 10 s to turn a login away.
	return bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		for _, a := range append(accounts, op.System()) {
			if err := resolver.Store(a.ID(), a.JWT()); err != nil {
				t.Error(err)
			}
		}
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{claims}, resolver, op.System().ID()
	}))
}

// login connects as u does by hand, and returns the refusals it is told of.
func login(t testing.TB, s *bustest.Node, u auth.User) (*nats.Conn, <-chan error) {
	t.Helper()
	refused := make(chan error, 64)
	nc := s.Connect(t, nats.UserCredentialBytes(u.Creds()), nats.CustomInboxPrefix("_INBOX."+u.ID()),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	return nc, refused
}

// tries tells whether nc may do what f does.
func tries(t testing.TB, nc *nats.Conn, refused <-chan error, f func() error) bool {
	t.Helper()
	before := nc.LastError()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if nc.LastError() == before { //nolint:errorlint // the very value
		return true
	}
	if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatal(err)
	}
	return false
}

func mayPublish(t testing.TB, nc *nats.Conn, refused <-chan error, subject string) bool {
	t.Helper()
	return tries(t, nc, refused, func() error { return nc.Publish(subject, nil) })
}

func maySubscribe(t testing.TB, nc *nats.Conn, refused <-chan error, subject string) bool {
	t.Helper()
	return tries(t, nc, refused, func() error {
		sub, err := nc.SubscribeSync(subject)
		if err == nil {
			t.Cleanup(func() { _ = sub.Unsubscribe() })
		}
		return err
	})
}

// An account's users see nothing of another account, and users of no account of this operator do not get in.
func TestAccountsIsolate(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	shop, other := newAccount(t, op, auth.AccountConfig{}), newAccount(t, op, auth.AccountConfig{Name: "other"})
	s := start(t, op, shop, other)
	here, _ := login(t, s, newUser(t, shop, auth.UserConfig{Role: auth.Admin}))
	there, _ := login(t, s, newUser(t, other, auth.UserConfig{Role: auth.Admin}))
	heard, err := there.SubscribeSync("shop.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := there.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := here.Publish("shop.prod.x", nil); err != nil {
		t.Fatal(err)
	}
	if err := here.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := there.Publish("shop.last", nil); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(10 * time.Second); err != nil || m.Subject != "shop.last" {
		t.Errorf("heard %v, %v", m, err)
	}
	foreign := newUser(t, newAccount(t, newOperator(t), auth.AccountConfig{}), auth.UserConfig{Role: auth.Admin})
	forged := newUser(t, newAccount(t, newOperator(t), auth.AccountConfig{Name: "forged"}), auth.UserConfig{Role: auth.Client})
	for _, u := range []auth.User{foreign, forged} {
		if nc, err := nats.Connect(s.URL(), nats.UserCredentialBytes(u.Creds())); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("%v: %v", u, err)
		}
	}
}

// A role's key signs users of that role only, whatever the token claims.
func TestRoleKeyIsScoped(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	key, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	account := newAccount(t, op, auth.AccountConfig{RoleKeys: map[auth.Role]nkeys.KeyPair{auth.Client: key}})
	s := start(t, op, account)
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	id, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(id)
	claims.IssuerAccount = account.ID()
	claims.Pub.Allow.Add(">")
	token, err := claims.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL(), nats.UserJWT(func() (string, error) { return token, nil }, user.Sign))
	if !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("a user with permissions of its own and the key of a role: %v", err)
	}
}

func TestAccountLimits(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	account := newAccount(t, op, auth.AccountConfig{MaxStore: 8 << 20, MaxStreams: 1, MaxConnections: 1})
	nc, _ := login(t, start(t, op, account), newUser(t, account, auth.UserConfig{Role: auth.Admin}))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.AccountInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l := info.Limits; l.MaxStore != 8<<20 || l.MaxStreams != 1 || l.MaxMemory != -1 || l.MaxConsumers != -1 {
		t.Errorf("limits are %+v", l)
	}
}

func TestExpiredUserIsLetGo(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	account := newAccount(t, op, auth.AccountConfig{})
	s := start(t, op, account)
	u := newUser(t, account, auth.UserConfig{Role: auth.Client, Expires: time.Now().Add(2 * time.Second)})
	gone := make(chan struct{})
	nc, err := nats.Connect(s.URL(), nats.UserCredentialBytes(u.Creds()), nats.NoReconnect(),
		nats.ClosedHandler(func(*nats.Conn) { close(gone) }), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Error("the connection still stands")
	}
}

// The seed of a user is in its credentials and nowhere else, whatever is printed.
func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	account := newAccount(t, op, auth.AccountConfig{})
	u := newUser(t, account, auth.UserConfig{Role: auth.Service, Services: []string{"orders"}})
	key, err := nkeys.ParseDecoratedUserNKey(u.Creds())
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	for _, v := range []any{op, account, u, *op, *account, &u, struct{ U auth.User }{u}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		log.Info("made", "value", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	out.WriteString(op.ServerConfig(account))
	for _, secret := range []string{string(seed), fmt.Sprintf("%x", seed), strings.Trim(fmt.Sprint([]int{int(seed[0]), int(seed[1]), int(seed[2]), int(seed[3]), int(seed[4])}), "[]")} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in\n%s", secret, out.String())
		}
	}
	// Of any user, operator or account: 58 letters, of which the first three alone are in a public key by chance now and then.
	seeds := regexp.MustCompile(`\bS[UOA]A[A-Z2-7]{55}\b`)
	if !seeds.Match(seed) {
		t.Errorf("%v does not find a seed", seeds)
	}
	if found := seeds.FindString(out.String()); found != "" {
		t.Errorf("the seed %q is in\n%s", found, out.String())
	}
	if text := fmt.Sprint(u); !strings.Contains(text, "orders") || !strings.Contains(text, u.ID()) {
		t.Errorf("the user is shown as %q", text)
	}
}

func TestServerConfig(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	account := newAccount(t, op, auth.AccountConfig{})
	dir := t.TempDir()
	file := filepath.Join(dir, "nats.conf")
	text := "jetstream: { store_dir: " + strconv.Quote(dir) + " }\n" + op.ServerConfig(account)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.DontListen, opts.NoSigs, opts.NoLog = true, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	u := newUser(t, account, auth.UserConfig{Role: auth.Client})
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserCredentialBytes(u.Creds()))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestKeysOfTheCaller(t *testing.T) {
	t.Parallel()
	keys := map[auth.Role]nkeys.KeyPair{}
	newKey := func(create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
		key, err := create()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	for _, role := range auth.Roles() {
		keys[role] = newKey(nkeys.CreateAccount)
	}
	opCfg := auth.OperatorConfig{
		Name: "acme", Key: newKey(nkeys.CreateOperator), SigningKey: newKey(nkeys.CreateOperator),
		SystemKey: newKey(nkeys.CreateAccount), SystemSigningKey: newKey(nkeys.CreateAccount),
	}
	accountCfg := auth.AccountConfig{Name: "shop", Key: newKey(nkeys.CreateAccount), RoleKeys: keys}
	again := func() (*auth.Operator, *auth.Account) {
		op, err := auth.NewOperator(opCfg)
		if err != nil {
			t.Fatal(err)
		}
		return op, newAccount(t, op, accountCfg)
	}
	op, account := again()
	s := start(t, op, account)
	op, account = again() // in another process, say
	login(t, s, newUser(t, account, auth.UserConfig{Role: auth.Client}))
	login(t, s, newUser(t, op.System(), auth.UserConfig{Role: auth.Admin}))
}
