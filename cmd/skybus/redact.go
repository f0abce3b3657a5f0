package main

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

const redacted = "[redacted]"

// Secrets that are known by their form: NATS seeds, JSON web tokens, API keys, and what stands before the @ of a URL.
var (
	seedOrToken = regexp.MustCompile(`\bS[UAOCNX][A-Z2-7]{56}\b|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|\bsbk_[a-z2-7]+_[a-z2-7]+`)
	userinfo    = regexp.MustCompile(`(\b[A-Za-z][\w+.-]*://)[^\s/?#"'\\]*@`)
)

// redact takes secrets known by their form out of text.
func redact(text string) string {
	return string(redactBytes([]byte(text)))
}

func redactBytes(text []byte) []byte {
	if bytes.Contains(text, []byte("://")) {
		text = userinfo.ReplaceAll(text, []byte("${1}"+redacted+"@"))
	}
	return seedOrToken.ReplaceAll(text, []byte(redacted))
}

// redactor redacts each write. A log handler writes one record at a time, so no secret spans two writes.
type redactor struct{ w io.Writer }

func (r redactor) Write(p []byte) (int, error) {
	if _, err := r.w.Write(redactBytes(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// replaceAttr hides attributes whose key, or whose group's, names a secret, and names the level below debug.
func replaceAttr(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 && attr.Key == slog.LevelKey {
		if l, ok := attr.Value.Any().(slog.Level); ok {
			return slog.String(attr.Key, levelName(l))
		}
	}
	if secretKey(attr.Key) || slices.ContainsFunc(groups, secretKey) {
		return slog.String(attr.Key, redacted)
	}
	switch v := attr.Value.Any().(type) {
	case http.Header:
		return slog.Any(attr.Key, redactHeader(v))
	case nats.Header:
		return slog.Any(attr.Key, redactHeader(v))
	case *url.URL:
		return slog.String(attr.Key, v.String()) // as JSON it would be its parts
	}
	return attr
}

func redactHeader(h map[string][]string) map[string][]string {
	h = maps.Clone(h)
	for key := range h {
		if secretKey(key) {
			h[key] = []string{redacted}
		}
	}
	return h
}

func secretKey(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{"authorization", "cookie", "token", "secret", "password", "passphrase", "creds", "credential", "seed", "apikey", "api_key", "api-key"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}
