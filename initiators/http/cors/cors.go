// Package cors lets web pages of other origins use an entry of a gateway (Cross-Origin Resource Sharing, as the Fetch standard has it).
//
// It only tells browsers what pages may read and send: programs are not concerned, and it authenticates nobody.
package cors

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults and limits.
const (
	DefaultMaxAge = 10 * time.Minute
	MaxMaxAge     = 24 * time.Hour
	maxList       = 100
	maxOrigin     = 255
)

// Config says what pages of other origins may do, as data.
type Config struct {
	// Origins are those whose pages may: "https://app.example.org", "https://*.example.org" for all below it, or "*" alone for all.
	// Required.
	Origins []string `json:"origins"`
	// Methods they may use. Empty means GET, HEAD and POST.
	Methods []string `json:"methods,omitempty"`
	// Headers they may send beside those that every page may. "*" means all but Authorization, which has to be named. Empty means
	// Content-Type, Authorization, X-Api-Key and Idempotency-Key.
	Headers []string `json:"headers,omitempty"`
	// Expose are the headers of answers that they may read beside those that every page may. Empty means those by which a gateway tells
	// of itself: X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, Location and Step-Errors.
	Expose []string `json:"expose,omitempty"`
	// Credentials lets browsers send cookies and client certificates along. It goes with no "*": any page could act for whoever
	// looks at it. Tokens that a page sends itself, in Authorization, need it not.
	Credentials bool `json:"credentials,omitempty"`
	// MaxAge is how long browsers may keep the answer to a preflight. 0 means 10 min; at most 24 h.
	MaxAge route.Duration `json:"max_age,omitempty"`
}

// Validate tells whether c can be used. The error has the code [bus.InvalidArgument] and names the field.
func (c Config) Validate() error {
	bad := func(field, format string, args ...any) error {
		return bus.Errorf(bus.InvalidArgument, "cors."+field+": "+format, args...)
	}
	if len(c.Origins) == 0 || len(c.Origins) > maxList {
		return bad("origins", "there are %d: want 1 to %d", len(c.Origins), maxList)
	}
	for i, o := range c.Origins {
		if o == "*" {
			if len(c.Origins) > 1 {
				return bad("origins", "* is all: want it alone")
			}
			if c.Credentials {
				return bad("credentials", "they do not go with all origins: name those that are trusted with them")
			}
			continue
		}
		if _, err := parseOrigin(o); err != "" {
			return bad("origins["+strconv.Itoa(i)+"]", "%.80q: %s", o, err)
		}
	}
	for _, list := range []struct {
		field  string
		values []string
		star   bool
	}{{"methods", c.Methods, false}, {"headers", c.Headers, true}, {"expose", c.Expose, true}} {
		if len(list.values) > maxList {
			return bad(list.field, "there are %d: want at most %d", len(list.values), maxList)
		}
		for i, v := range list.values {
			if v == "*" && list.star && !c.Credentials {
				continue
			}
			if !token(v) {
				return bad(list.field+"["+strconv.Itoa(i)+"]", "%.80q: want a name; * goes with headers, and not with credentials", v)
			}
		}
	}
	if c.MaxAge < 0 || time.Duration(c.MaxAge) > MaxMaxAge {
		return bad("max_age", "%s: want 0s to %s", time.Duration(c.MaxAge), MaxMaxAge)
	}
	return nil
}

// parseOrigin checks an origin as browsers write it. What is wrong with it is a text.
func parseOrigin(s string) (origin, string) {
	const want = "want scheme://host or scheme://host:port in lower case, as in https://app.example.org"
	u, err := url.Parse(s)
	if err != nil || len(s) > maxOrigin || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) {
		return origin{}, want
	}
	if port := u.Port(); strings.HasSuffix(u.Host, ":") || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return origin{}, "browsers leave the usual port out: so must this"
	}
	host, wild := strings.CutPrefix(u.Host, "*.")
	if strings.Contains(host, "*") || wild && !strings.Contains(strings.Trim(u.Hostname()[2:], "."), ".") {
		return origin{}, "want * only for what stands before a domain of at least two names, as in https://*.example.org"
	}
	if !wild {
		return origin{exact: s}, ""
	}
	return origin{prefix: u.Scheme + "://", suffix: "." + host}, ""
}

// origin is one that is let in, or those below a domain.
type origin struct{ exact, prefix, suffix string }

func (o origin) admits(s string) bool {
	if o.exact != "" {
		return s == o.exact
	}
	rest, ok := strings.CutPrefix(s, o.prefix)
	if !ok {
		return false
	}
	sub, ok := strings.CutSuffix(rest, o.suffix)
	return ok && sub != "" && strings.Trim(sub, "abcdefghijklmnopqrstuvwxyz0123456789-._") == "" && !strings.Contains("."+sub+".", "..")
}

// token is what RFC 9110 lets the name of a field or a method be.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Policy is a [Config] ready for use. It is safe for concurrent use.
type Policy struct {
	all                     bool
	origins                 []origin
	methods, headers, maxed []string
	expose                  []string
	credentials             bool
}

// New checks cfg and makes a policy of it.
func New(cfg Config) (*Policy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	list := func(values []string, or ...string) []string {
		if len(values) == 0 {
			values = or
		}
		return []string{strings.Join(values, ", ")}
	}
	age := time.Duration(cfg.MaxAge)
	if age == 0 {
		age = DefaultMaxAge
	}
	p := &Policy{
		all:         slices.Equal(cfg.Origins, []string{"*"}),
		methods:     list(cfg.Methods, http.MethodGet, http.MethodHead, http.MethodPost),
		headers:     list(cfg.Headers, "Content-Type", "Authorization", "X-Api-Key", "Idempotency-Key"),
		expose:      list(cfg.Expose, "X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "Location", "Step-Errors"),
		maxed:       []string{strconv.Itoa(int(age / time.Second))},
		credentials: cfg.Credentials,
	}
	for _, o := range cfg.Origins {
		if o != "*" {
			parsed, _ := parseOrigin(o) // was checked
			p.origins = append(p.origins, parsed)
		}
	}
	return p, nil
}

// IsPreflight tells whether a browser asks whether a page may make a request. It carries no credentials, so it is to be answered before
// anybody is authenticated.
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) > 0 && len(r.Header["Access-Control-Request-Method"]) > 0
}

// admits tells whether the page that sends r is of an origin that may.
func (p *Policy) admits(r *http.Request) (string, bool) {
	values := r.Header["Origin"]
	if len(values) != 1 {
		return "", false
	}
	if p.all {
		return values[0], true
	}
	return values[0], slices.ContainsFunc(p.origins, func(o origin) bool { return o.admits(values[0]) })
}

// allow sets what every answer to a page has, and tells whether it may.
func (p *Policy) allow(h http.Header, r *http.Request) bool {
	if !p.all {
		h.Add("Vary", "Origin") // also of answers to programs: a cache may give them to a page
	}
	origin, ok := p.admits(r)
	if !ok {
		return false
	}
	if p.all {
		origin = "*"
	}
	h["Access-Control-Allow-Origin"] = []string{origin}
	if p.credentials {
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	}
	return true
}

// SetHeader says in h, the header of the answer to r, what a page may read of it.
func (p *Policy) SetHeader(h http.Header, r *http.Request) {
	if p.allow(h, r) {
		h["Access-Control-Expose-Headers"] = p.expose
	}
}

// Preflight answers a preflight (see [IsPreflight]) with 204. What the policy does not allow is not in the answer, and the browser
// refuses it to the page.
func (p *Policy) Preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	if p.allow(h, r) {
		h["Access-Control-Allow-Methods"] = p.methods
		h["Access-Control-Allow-Headers"] = p.headers
		h["Access-Control-Max-Age"] = p.maxed
	}
	w.WriteHeader(http.StatusNoContent)
}

// Handler answers preflights, and adds to the answers of next what pages may read.
func (p *Policy) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if IsPreflight(r) {
			p.Preflight(w, r)
			return
		}
		p.SetHeader(w.Header(), r)
		next.ServeHTTP(w, r)
	})
}
