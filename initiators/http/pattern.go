package http

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// AllListeners as an entry's listener means that it is at all of them.
const AllListeners = "*"

const (
	maxPath       = 512
	maxParameters = 16
)

// checkPath tells whether path is a pattern of net/http without method and host.
func checkPath(path string) error {
	switch {
	case path == "" || path[0] != '/':
		return fmt.Errorf("%.80q: want a path that begins with a slash, such as /orders/{id}", path)
	case len(path) > maxPath:
		return fmt.Errorf("has %d characters: want at most %d", len(path), maxPath)
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("has a space or control character")
	case strings.ContainsAny(path, "?#"):
		return errors.New("has a ? or #: a query is no part of the pattern")
	}
	if names := parameters(path); len(names) > maxParameters {
		return fmt.Errorf("has %d parameters: want at most %d", len(names), maxParameters)
	}
	if err := register(http.NewServeMux(), path, http.NotFoundHandler()); err != nil {
		return fmt.Errorf("%.80q is no pattern: %w", path, err)
	}
	// Such as /a//b and /a/../b, which no request has: they are refused before.
	if p := (httpx.Rules{}).Ambiguous(strings.TrimSuffix(path, "{$}")); p != "" {
		return fmt.Errorf("%.80q: %s", path, p)
	}
	return nil
}

// parameters are the names in a pattern, in their order.
func parameters(path string) []string {
	var names []string
	for rest := path; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return names
		}
		name, tail, ok := strings.Cut(after, "}")
		if !ok {
			return names
		}
		if name = strings.TrimSuffix(name, "..."); name != "$" {
			names = append(names, name)
		}
		rest = tail
	}
}

// register adds a handler to mux. What mux panics of, a malformed pattern or a conflict, is the error.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			text := fmt.Sprint(r)
			if _, after, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "parsing ") {
				text = after
			}
			err = errors.New(text)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// patterns are those of an entry, as a mux has them.
func (e Entry) patterns() []string {
	list := e.methodList()
	if len(list) == 0 {
		return []string{e.Host + e.Path}
	}
	all := make([]string, 0, len(list))
	for _, m := range list {
		all = append(all, m+" "+e.Host+e.Path)
	}
	return all
}

// methodList is empty where all methods are meant.
func (e Entry) methodList() []string {
	if e.Method != "" {
		return []string{e.Method}
	}
	return e.Methods
}

// Pattern is what the entry matches, for people: GET,HEAD example.org/orders/{id}.
func (e Entry) Pattern() string {
	return strings.TrimSpace(strings.Join(e.methodList(), ",") + " " + e.Host + e.Path)
}

// conflict tells why a and b cannot both be served, nil where they can.
func conflict(a, b Entry) error {
	if a.Listener != b.Listener && a.Listener != AllListeners && b.Listener != AllListeners || a.Host != b.Host {
		return nil
	}
	mux := http.NewServeMux()
	for _, p := range a.patterns() {
		_ = register(mux, p, http.NotFoundHandler()) // it is a pattern: a was validated
	}
	for _, p := range b.patterns() {
		if err := register(mux, p, http.NotFoundHandler()); err != nil {
			return fmt.Errorf("%s and %s match some of the same requests, and neither is more specific", a.Pattern(), b.Pattern())
		}
	}
	return nil
}

// validHost takes a host name in lower case, or an address of IPv4.
func validHost(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// checkPassed tells whether a header may pass between client and target, or be set.
func checkPassed(name string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case "Host", "Content-Length", "Content-Type", "Content-Encoding", "Date", "Accept-Encoding":
		return fmt.Errorf("%.40q is set by HTTP itself", name)
	}
	if httpx.HopByHop(canonical) {
		return fmt.Errorf("%.40q is for one connection", name)
	}
	if err := bus.CheckHeader(nats.Header{name: {""}}); err != nil {
		return errors.New(bus.AsError(err).Message)
	}
	return nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
