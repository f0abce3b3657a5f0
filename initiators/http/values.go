package http

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// value is what placeholders of a mapping stand for: path.id, query.q, header.X-User, cookie.session, form.a, and method, host, path, remote; of who
// sends it auth.id and what else [auth.Principal.Value] knows. Of what was sent several times it is the first. What path, query and form have of a name is
// there also where it is empty. Headers that hold credentials, or that the gateway itself sets, are not there, but for single cookies.
func (x *exchange) value(name string) (string, bool) {
	r := x.request
	kind, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		switch name {
		case "method":
			return r.Method, true
		case "host":
			return r.Host, true
		case "path":
			return r.URL.Path, true
		case "remote":
			return x.remote(), true
		}
		return "", false
	}
	switch kind {
	case "path":
		return r.PathValue(rest), slices.Contains(x.entry.params, rest)
	case "query":
		return first(x.query[rest])
	case "form":
		return first(x.form[rest])
	case "auth", "claim":
		if x.who != nil {
			return x.who.Value(name)
		}
	case "header":
		if guard := x.gateway.cfg.Guard; !isCredential(rest) && (guard == nil || !guard.Hides(rest)) {
			return first(r.Header[http.CanonicalHeaderKey(rest)])
		}
	case "cookie":
		if c, err := r.Cookie(rest); err == nil {
			return c.Value, true
		}
	}
	return "", false
}

// isCredential tells whether a header proves who asks, whatever this gateway takes for proof: such is neither stored nor put into bodies. Names that
// differ by underscores are the same, as for [auth.Guard.Hides].
func isCredential(name string) bool {
	switch http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")) {
	case "Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key":
		return true
	}
	return false
}

func first(values []string) (string, bool) {
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// members are what is merged into the body: the query below it, the path above it. What was sent several times is a list.
func (x *exchange) members() (low, high map[string]any) {
	if len(x.query) > 0 {
		low = members(x.query)
	}
	if len(x.entry.params) > 0 {
		high = make(map[string]any, len(x.entry.params))
		for _, name := range x.entry.params {
			high[name] = x.request.PathValue(name)
		}
	}
	return low, high
}

// remote is the address of the client.
func (x *exchange) remote() string {
	if addr := x.gateway.proxies.ClientIP(x.request); addr.IsValid() {
		return addr.String()
	}
	return x.request.RemoteAddr
}

// parseTimeout reads the header Skybus-Timeout: milliseconds, or a duration such as 2s.
func parseTimeout(text string) (time.Duration, error) {
	if ms, err := strconv.ParseUint(text, 10, 31); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, bus.Errorf(bus.InvalidArgument, "header Skybus-Timeout: %.40q: want milliseconds, or a duration such as 2s", text).With("field", "Skybus-Timeout")
}
