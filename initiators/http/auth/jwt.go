package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/skybus-io/skybus/bus"
)

// tokens is the [Authenticator] of JSON web tokens.
type tokens struct {
	issuers map[string]*issuer
	algs    []jose.SignatureAlgorithm // of all issuers
	good    *verified
}

var _ Authenticator = (*tokens)(nil)

// issuer is a config and the keys that are known by it.
type issuer struct {
	cfg  JWTConfig
	algs []jose.SignatureAlgorithm
	keys keySource
}

// keySource has the keys of an issuer.
type keySource interface {
	// find returns what may verify a token. The error says that no keys are known yet.
	find(ctx context.Context, kid string, alg jose.SignatureAlgorithm) ([]any, error)
	// current is the set as it is now, another one after each change. Nil means that no keys are known yet.
	current() *keySet
	Close() error
}

func openTokens(ctx context.Context, cfgs []JWTConfig, remember int, client *http.Client, log *slog.Logger) (*tokens, error) {
	t := &tokens{issuers: map[string]*issuer{}, good: newVerified(remember)}
	var firsts []<-chan struct{}
	for i, cfg := range cfgs {
		is := &issuer{cfg: cfg, algs: cfg.algorithms()}
		log := log.With("issuer", cfg.Issuer)
		if cfg.JWKS != "" {
			keys, first := openRemote(ctx, &cfg, client, log)
			is.keys, firsts = keys, append(firsts, first)
		} else {
			file, err := openFile(ctx, cfg.File, cfg.secret(), log)
			if err != nil {
				_ = t.Close()
				return nil, bus.Errorf(bus.InvalidArgument, "jwt[%d].file: %w", i, err)
			}
			is.keys = file
		}
		t.issuers[cfg.Issuer] = is
		t.algs = append(t.algs, is.algs...)
	}
	for _, first := range firsts {
		select {
		case <-first:
		case <-ctx.Done():
		}
	}
	return t, nil
}

// Close ends what keeps the keys fresh.
func (t *tokens) Close() error {
	var errs []error
	for _, is := range t.issuers {
		errs = append(errs, is.keys.Close())
	}
	return errors.Join(errs...)
}

// Authenticate looks for a Bearer token that has the form of a JWT.
func (t *tokens) Authenticate(r *http.Request) (*Principal, error) {
	text, ok := bearer(r)
	if !ok || strings.Count(text, ".") != 2 {
		return nil, nil
	}
	hash, now := hashToken(text), time.Now()
	if who := t.good.get(hash, now); who != nil {
		return who, nil
	}
	token, err := jose.ParseSignedCompact(text, t.algs)
	if err != nil {
		return nil, refuse(invalid, parseCause(err))
	}
	// Whose keys are to be tried, the token itself says: only with that issuer's own key can it be right.
	var claims jwt.Claims
	if err := josejson.Unmarshal(token.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return nil, refuse(invalid, errors.New("token: its claims are not those of a JWT"))
	}
	is, ok := t.issuers[claims.Issuer]
	if !ok {
		return nil, refuse(invalid, fmt.Errorf("token: issuer %.80q is not known", claims.Issuer))
	}
	keys := is.keys.current() // before they are asked: what others verify is looked at again
	payload, err := is.verify(r.Context(), token)
	if err != nil {
		return nil, err
	}
	who, err := is.principal(payload, claims)
	if err != nil {
		return nil, err
	}
	until := now.Add(rememberFor)
	if end := claims.Expiry.Time().Add(is.cfg.skew()); end.Before(until) {
		until = end
	}
	t.good.put(hash, goodToken{is, keys, who, until})
	return who, nil
}

// parseCause says why a token cannot be parsed, without the parts of it that the library's own text has.
func parseCause(err error) error {
	if e, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return fmt.Errorf("token: algorithm %.40q is taken from nobody", e.Got)
	}
	return errors.New("token: it is not a signed JWT in compact form")
}

// verify returns the payload if an allowed key has signed it by an allowed algorithm.
func (is *issuer) verify(ctx context.Context, token *jose.JSONWebSignature) ([]byte, error) {
	header := token.Signatures[0].Protected
	alg := jose.SignatureAlgorithm(header.Algorithm)
	if !slices.Contains(is.algs, alg) {
		return nil, refuse(invalid, fmt.Errorf("token: algorithm %.40q is not one of this issuer's", alg))
	}
	// What must be understood to read it right (RFC 7515, 4.1.11) is nothing that a JWT needs.
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := header.ExtraHeaders[name]; ok {
			return nil, refuse(invalid, fmt.Errorf("token: header %q is not taken", name))
		}
	}
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); is.cfg.Type != "" && !sameType(typ, is.cfg.Type) {
		return nil, refuse(invalid, fmt.Errorf("token: type %.40q: want %q", typ, is.cfg.Type))
	}
	if len(header.KeyID) > maxKID {
		return nil, refuse(invalid, fmt.Errorf("token: key id of %d bytes: want at most %d", len(header.KeyID), maxKID))
	}
	keys, err := is.keys.find(ctx, header.KeyID, alg)
	if err != nil {
		return nil, bus.Wrap(bus.Unavailable, "tokens cannot be checked now: their keys are not at hand", err)
	}
	for _, key := range keys {
		if payload, err := token.Verify(key); err == nil {
			return payload, nil
		}
	}
	return nil, refuse(invalid, fmt.Errorf("token: none of %d keys of id %.80q for %s has signed it", len(keys), header.KeyID, alg))
}

// sameType compares media types as RFC 7515 (4.1.9) has them: application/ may be left out.
func sameType(a, b string) bool {
	short := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "application/") }
	return short(a) == short(b)
}

// principal is who a verified token is about.
func (is *issuer) principal(payload []byte, registered jwt.Claims) (*Principal, error) {
	if registered.Expiry == nil {
		return nil, refuse(invalid, errors.New("token: it never expires"))
	}
	err := registered.ValidateWithLeeway(jwt.Expected{Issuer: is.cfg.Issuer, AnyAudience: is.cfg.Audience, Time: time.Now()}, is.cfg.skew())
	if errors.Is(err, jwt.ErrExpired) {
		return nil, refuse("the token has expired", nil)
	}
	if err != nil {
		return nil, refuse(invalid, fmt.Errorf("token: %w", err))
	}
	claims := map[string]any{}
	dec := josejson.NewDecoder(bytes.NewReader(payload)) // strict about names that are there twice
	dec.SetNumberType(josejson.UnmarshalJSONNumber)
	if err := dec.Decode(&claims); err != nil {
		return nil, refuse(invalid, errors.New("token: its claims are not a JSON object"))
	}
	plainNumbers(claims)
	for _, name := range sortedKeys(is.cfg.Require) {
		if !required(claims, name, is.cfg.Require[name]) {
			return nil, refuse(invalid, fmt.Errorf("token: claim %q is missing or not one of those wanted", name))
		}
	}
	p := &Principal{Kind: Token, Issuer: registered.Issuer, Claims: claims}
	if p.ID = first(claims, is.cfg.Subject, "sub"); !validID(p.ID) {
		return nil, refuse(invalid, errors.New("token: its subject is empty, too long or has control characters"))
	}
	if p.Name = first(claims, is.cfg.Name, "name"); !validID(p.Name) {
		p.Name = ""
	}
	if p.Scopes, err = is.scopes(claims); err != nil {
		return nil, refuse(invalid, err)
	}
	return p, nil
}

// plainNumbers makes the numbers in a claim those of encoding/json, and returns it.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case josejson.Number:
		return json.Number(v)
	case map[string]any:
		for name, member := range v {
			v[name] = plainNumbers(member)
		}
	case []any:
		for i, member := range v {
			v[i] = plainNumbers(member)
		}
	}
	return v
}

// first is the text of a claim, or of another where none is named.
func first(claims map[string]any, name, or string) string {
	if name == "" {
		name = or
	}
	v, _ := claim(claims, name)
	s, _ := text(v)
	return s
}

// required tells whether a claim is there with one of values; for a list, whether one of its members is. No values means any.
func required(claims map[string]any, name string, values []string) bool {
	v, ok := claim(claims, name)
	if !ok || v == nil {
		return false
	}
	if len(values) == 0 {
		return true
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	return slices.ContainsFunc(list, func(v any) bool {
		s, ok := text(v)
		return ok && slices.Contains(values, s)
	})
}

// scopes reads them from the claim that is configured, else from scope or scp.
func (is *issuer) scopes(claims map[string]any) ([]string, error) {
	names := []string{"scope", "scp"}
	if is.cfg.Scopes != "" {
		names = []string{is.cfg.Scopes}
	}
	for _, name := range names {
		v, ok := claim(claims, name)
		if !ok {
			continue
		}
		var scopes []string
		switch v := v.(type) {
		case string:
			scopes = strings.Fields(v)
		case []any:
			if scopes, ok = texts(v); !ok {
				return nil, fmt.Errorf("token: claim %q is a list of something else than texts", name)
			}
		default:
			return nil, fmt.Errorf("token: claim %q is neither a text nor a list", name)
		}
		if len(scopes) > MaxScopes {
			return nil, fmt.Errorf("token: it has %d scopes: want at most %d", len(scopes), MaxScopes)
		}
		// What can be no scope can be wanted by no policy.
		return slices.DeleteFunc(scopes, func(s string) bool { return !validScope(s) }), nil
	}
	return nil, nil
}
