package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natscontext"
	"golang.org/x/net/proxy"

	"github.com/skybus-io/skybus/bus"
)

// connFlags say which NATS server and who we are there. They are the nats command's flags, so its users know them.
type connFlags struct {
	Server  string        `short:"s" help:"NATS server, or several separated by commas. Default: the NATS context's, else nats://127.0.0.1:4222." placeholder:"URL" env:"SKYBUS_SERVER,NATS_URL" group:"connection"`
	Context string        `help:"NATS context to take server and login from. Default: the selected one, unless a server is given." placeholder:"NAME" env:"SKYBUS_CONTEXT,NATS_CONTEXT" group:"connection"`
	Creds   string        `help:"Credentials file to log in with." placeholder:"FILE" env:"SKYBUS_CREDS,NATS_CREDS" group:"connection"`
	Timeout time.Duration `help:"How long to wait for the server and for answers." default:"5s" env:"SKYBUS_TIMEOUT,NATS_TIMEOUT" group:"connection"`

	User         string `help:"User, or a token when there is no password." env:"SKYBUS_USER,NATS_USER" placeholder:"USER" group:"login"`
	Password     string `help:"Password. On a command line others can read it: prefer the variable or --password-file." env:"SKYBUS_PASSWORD,NATS_PASSWORD" placeholder:"PASSWORD" group:"login"`
	PasswordFile string `help:"File that holds the password." env:"SKYBUS_PASSWORD_FILE" placeholder:"FILE" group:"login"`
	NKey         string `name:"nkey" help:"File that holds the seed of a user NKey." env:"SKYBUS_NKEY,NATS_NKEY" placeholder:"FILE" group:"login"`
	TLSCert      string `name:"tlscert" help:"Certificate to show." env:"SKYBUS_TLSCERT,NATS_CERT" placeholder:"FILE" group:"login"`
	TLSKey       string `name:"tlskey" help:"Key of the certificate." env:"SKYBUS_TLSKEY,NATS_KEY" placeholder:"FILE" group:"login"`
	TLSCA        string `name:"tlsca" help:"Authorities to trust." env:"SKYBUS_TLSCA,NATS_CA" placeholder:"FILE" group:"login"`
}

// busConfig is how to connect as flags, environment and NATS context say, in this order.
func (a *App) busConfig() (bus.Config, error) {
	if _, err := a.namespace(); err != nil {
		return bus.Config{}, err
	}
	s, err := a.settings()
	if err != nil {
		return bus.Config{}, err
	}
	opts, err := natsOptions(s)
	if err != nil {
		return bus.Config{}, err
	}
	if s.JSDomain != "" || s.JSAPIPrefix != "" {
		a.log.Warn("the JetStream domain of the NATS context is not used", "context", s.Name)
	}
	return bus.Config{
		Server:    s.URL,
		Namespace: a.Namespace,
		Name:      "skybus " + a.command,
		Logger:    a.log,
		Options:   opts,
	}, nil
}

// namespace is the one to work in.
func (a *App) namespace() (bus.Namespace, error) {
	ns, err := bus.ParseNamespace(a.Namespace)
	if err != nil {
		return ns, withHint(usagef("%s", bus.AsError(err).Message), "--namespace or SKYBUS_NAMESPACE names it")
	}
	return ns, nil
}

// settings lays the flags over the NATS context. A selected context is left alone when a server is given: its login is
// meant for its own server.
func (a *App) settings() (natscontext.Settings, error) {
	var s natscontext.Settings
	if a.Context != "" || a.Server == "" {
		var err error
		if s, err = loadContext(a.Context); err != nil {
			return s, err
		}
	}
	s.URL = cmp.Or(a.Server, s.URL)
	s.Cert, s.Key = cmp.Or(a.TLSCert, s.Cert), cmp.Or(a.TLSKey, s.Key)
	s.CA = cmp.Or(a.TLSCA, s.CA)
	return s, a.login(&s)
}

// login replaces the whole login of s when flags or environment have one. Flags beat the environment also where they log
// in another way.
func (a *App) login(s *natscontext.Settings) error {
	user, creds, nkey := a.User, a.Creds, a.NKey
	if a.given["user"] || a.given["creds"] || a.given["nkey"] {
		only := func(name, value string) string {
			if a.given[name] {
				return value
			}
			return ""
		}
		user, creds, nkey = only("user", user), only("creds", creds), only("nkey", nkey)
	}
	ways := 0
	for _, way := range []string{user, creds, nkey} {
		if way != "" {
			ways++
		}
	}
	if ways == 0 {
		return nil
	}
	if ways > 1 {
		return usagef("more than one login: give one of --user, --creds and --nkey")
	}
	s.User, s.Password, s.Token, s.Creds, s.NKey, s.UserJwt = "", "", "", creds, nkey, ""
	if user == "" {
		return nil
	}
	password, err := a.password()
	if err != nil {
		return err
	}
	if password == "" {
		s.Token = user
		return nil
	}
	s.User, s.Password = user, password
	return nil
}

func (a *App) password() (string, error) {
	if a.PasswordFile == "" || a.given["password"] {
		return a.Password, nil
	}
	data, err := os.ReadFile(a.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

func natsOptions(s natscontext.Settings) ([]nats.Option, error) {
	var opts []nats.Option
	switch {
	case s.User != "":
		opts = append(opts, nats.UserInfo(s.User, s.Password))
	case s.Creds != "":
		f, err := os.Open(expandHome(s.Creds)) // else only the connection finds it out, and not whose file it is
		if err != nil {
			return nil, withHint(fmt.Errorf("credentials: %w", err), "--creds, NATS_CREDS or the NATS context (--context) names the file")
		}
		_ = f.Close()
		opts = append(opts, nats.UserCredentials(expandHome(s.Creds)))
	case s.NKey != "":
		opt, err := nats.NkeyOptionFromSeed(expandHome(s.NKey))
		if err != nil {
			return nil, fmt.Errorf("nkey %q: %w", s.NKey, err)
		}
		opts = append(opts, opt)
	}
	if s.Token != "" {
		opts = append(opts, nats.Token(s.Token))
	}
	if s.Cert != "" || s.Key != "" {
		if s.Cert == "" || s.Key == "" {
			return nil, usagef("--tlscert and --tlskey go together")
		}
		opts = append(opts, nats.ClientCert(expandHome(s.Cert), expandHome(s.Key)))
	}
	if s.CA != "" {
		opts = append(opts, nats.RootCAs(expandHome(s.CA)))
	}
	if s.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	if s.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(s.InboxPrefix))
	}
	if s.SocksProxy != "" {
		dialer, err := socks(s.SocksProxy)
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.SetCustomDialer(dialer))
	}
	return opts, nil
}

// socksDialer gives a dialer the shape that nats.go asks for.
type socksDialer struct{ proxy.Dialer }

var _ nats.CustomDialer = socksDialer{}

func (d socksDialer) Dial(network, address string) (net.Conn, error) {
	return d.Dialer.Dial(network, address)
}

func socks(address string) (socksDialer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return socksDialer{}, errors.New("socks proxy: not a URL")
	}
	d, err := proxy.FromURL(u, proxy.Direct)
	if err != nil {
		return socksDialer{}, fmt.Errorf("socks proxy %s: %w", u.Redacted(), err)
	}
	return socksDialer{d}, nil
}
