package auth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Options are what a [Guard] needs beside its [Config]. The zero value works.
type Options struct {
	// Extra are authenticators of the caller's own. They are asked last.
	Extra []Authenticator
	// Logger hears of keys that cannot be read or fetched, never of requests. Nil means discard.
	Logger *slog.Logger
	// Client fetches key sets. Nil means one that follows no redirects and gives up after 5 s.
	Client *http.Client
}

// Guard holds requests against policies. It is safe for concurrent use.
type Guard struct {
	realm   string
	cfg     Config
	chain   []Authenticator
	headers []string // that hold credentials, in canonical form
	claims  map[string]string
	opened  []func() error // what closes what was opened
	close   func() error   // all of that, once
}

// Open makes a guard, which lives until [Guard.Close]; ctx bounds only the beginning. With cfg.Keys it opens their bucket over
// conn and has all keys at hand when it returns; without, conn may be nil. Files must be readable. A key set whose
// server does not answer is no error: tokens are then refused as unavailable (503) until it does.
func Open(ctx context.Context, conn *bus.Conn, cfg Config, opts Options) (*Guard, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("component", "auth")
	g := &Guard{realm: cmp.Or(cfg.Realm, DefaultRealm), cfg: cfg, claims: map[string]string{}}
	g.close = sync.OnceValue(g.closeAll)
	for name, value := range cfg.Headers {
		g.claims[http.CanonicalHeaderKey(name)] = value
	}
	if err := g.open(ctx, conn, opts, log); err != nil {
		_ = g.Close() // what was opened fails at nothing
		return nil, err
	}
	return g, nil
}

func (g *Guard) open(ctx context.Context, conn *bus.Conn, opts Options, log *slog.Logger) error {
	if g.cfg.Keys != nil {
		if conn == nil {
			return bus.Errorf(bus.InvalidArgument, "keys: want a connection to read them by")
		}
		keys, err := openKeyring(ctx, conn, g.cfg.Keys.header(), log)
		if err != nil {
			return err
		}
		g.chain, g.opened = append(g.chain, keys), append(g.opened, keys.Close)
		g.headers = append(g.headers, g.cfg.Keys.header())
	}
	if len(g.cfg.JWT) > 0 {
		tokens, err := openTokens(ctx, g.cfg.JWT, g.cfg.remember(), opts.Client, log)
		if err != nil {
			return err
		}
		g.chain, g.opened = append(g.chain, tokens), append(g.opened, tokens.Close)
	}
	g.chain = append(g.chain, opts.Extra...)
	if len(g.chain) > 0 {
		g.headers = append(g.headers, "Authorization")
	}
	if g.cfg.MTLS != nil {
		g.chain = append(g.chain, newCertificates(*g.cfg.MTLS))
	}
	return nil
}

// Close ends what follows keys and key sets. Requests are then held against what was known last. Further calls wait for the same end.
func (g *Guard) Close() error { return g.close() }

func (g *Guard) closeAll() error {
	var errs []error
	for _, f := range g.opened {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// nobody is who sends no credential.
var nobody = &Principal{Kind: Anonymous} //nolint:gochecknoglobals // never changed, and one allocation less per request

// Authenticate finds out who sends r: a principal of kind [Anonymous] where it carries no credential. The error is a
// [bus.Error] as [Authenticator] has it.
func (g *Guard) Authenticate(r *http.Request) (*Principal, error) {
	given := 0
	for _, name := range g.headers {
		given += len(r.Header[name])
	}
	if given > 1 {
		return nil, refuse("the request has more than one credential: want one", nil)
	}
	var who *Principal
	for _, a := range g.chain {
		p, err := a.Authenticate(r)
		if err != nil {
			return nil, err
		}
		if who == nil {
			who = p
		}
	}
	switch {
	case given > 0 && (who == nil || who.Kind == Certificate):
		return nil, refuse(invalid, errors.New("a credential of no kind that is taken here"))
	case who == nil:
		return nobody, nil
	}
	return who, nil
}

// Authorize finds out who sends r and holds that against p. The error is a [bus.Error]: unauthenticated (401) for a credential that is
// wrong or missing, permission_denied (403) for one that is not enough, with the missing scope, and unavailable (503) where that cannot be
// told now. With 401 and 403, h, the header of the answer, has what RFC 6750 wants there (WWW-Authenticate).
func (g *Guard) Authorize(h http.Header, r *http.Request, p Policy) (*Principal, error) {
	who, err := g.Authenticate(r)
	if err != nil {
		if bus.CodeOf(err) == bus.Unauthenticated {
			g.challenge(h, `error="invalid_token"`)
		}
		return nil, err
	}
	if who.Kind == Anonymous {
		if p.Anonymous {
			return who, nil
		}
		g.challenge(h)
		return nil, bus.Errorf(bus.Unauthenticated, "this needs a credential")
	}
	if len(p.Kinds) > 0 && !slices.Contains(p.Kinds, who.Kind) {
		g.challenge(h, `error="insufficient_scope"`)
		return nil, bus.Errorf(bus.PermissionDenied, "this needs a credential of another kind: %s", joinKinds(p.Kinds))
	}
	if scope := who.missing(p.Scopes); scope != "" {
		g.challenge(h, `error="insufficient_scope"`, `scope="`+strings.Join(p.Scopes, " ")+`"`)
		return nil, bus.Errorf(bus.PermissionDenied, "this needs the scope %q", scope).With("scope", scope)
	}
	return who, nil
}

// challenge says how one may log in. Certificates have no scheme of their own, and a 401 must name one.
func (g *Guard) challenge(h http.Header, params ...string) {
	h.Set("WWW-Authenticate", strings.Join(append([]string{`Bearer realm="` + g.realm + `"`}, params...), ", "))
}

// Hides tells whether what a client sends under the name of a header must go no further: credentials, and what [Guard.SetHeader]
// sets. Names that differ by underscores are the same: some servers take them for that.
func (g *Guard) Hides(name string) bool {
	name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	if name == "Authorization" || name == "Proxy-Authorization" || slices.Contains(g.headers, name) {
		return true
	}
	_, ok := g.claims[name]
	return ok
}

// SetHeader adds to what goes on to a service what Config.Headers says of who. What who does not have is left out. The error, unauthenticated,
// is for values that no header can carry.
func (g *Guard) SetHeader(h nats.Header, who *Principal) error {
	for name, value := range g.claims {
		delete(h, name)
		text, ok := who.Value(value)
		if !ok || who.Kind == Anonymous {
			continue
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return refuse(invalid, errors.New("a control character in what is to be a header"))
		}
		h[name] = []string{text}
	}
	return nil
}

func joinKinds(kinds []Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}
