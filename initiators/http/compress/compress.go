// Package compress makes answers of a gateway smaller for clients that take gzip.
//
// # What not to compress
//
// The length of a compressed answer tells how much in it repeats. Where an answer holds a secret beside something that an attacker
// chose, and he can have a browser fetch it many times while he watches the lengths, he learns the secret letter by letter
// (BREACH). Do not compress such answers: pages with CSRF tokens beside an echo of the query, say. [Config.Jitter] adds bytes at random, which makes that
// slower and not impossible. Answers to programs that send tokens in Authorization are not in that danger: no page of
// somebody else can have them fetched.
//
// Server-sent events are never compressed: each has to be there at once.
package compress

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzhttp"

	"github.com/skybus-io/skybus/bus"
)

// Defaults and limits.
const (
	DefaultMinSize = 1024
	MaxMinSize     = 1 << 20
	DefaultLevel   = 1
	MaxJitter      = 1024
	maxTypes       = 100
)

// Config says what is compressed, as data. The zero value works.
type Config struct {
	// MinSize is how many bytes an answer has at least. 0 means 1,024; at most 1 MiB.
	MinSize int `json:"min_size,omitempty"`
	// Level is from 1, which is fastest, to 9. 0 means 1.
	Level int `json:"level,omitempty"`
	// Types are the media types that are compressed: "application/json", "text/*". Empty means texts, JSON, XML and JavaScript.
	Types []string `json:"types,omitempty"`
	// Jitter adds up to so many random bytes to an answer. 0 means none; at most 1,024.
	Jitter int `json:"jitter,omitempty"`
}

// Validate tells whether c can be used. The error has the code [bus.InvalidArgument] and names the field.
func (c Config) Validate() error {
	for _, f := range []struct {
		field       string
		value, most int
	}{{"min_size", c.MinSize, MaxMinSize}, {"level", c.Level, 9}, {"jitter", c.Jitter, MaxJitter}} {
		if f.value < 0 || f.value > f.most {
			return bus.Errorf(bus.InvalidArgument, "compress.%s: %d: want 0 to %d", f.field, f.value, f.most)
		}
	}
	if len(c.Types) > maxTypes {
		return bus.Errorf(bus.InvalidArgument, "compress.types: there are %d: want at most %d", len(c.Types), maxTypes)
	}
	for i, t := range c.Types {
		media, params, err := mime.ParseMediaType(t)
		if err != nil || len(params) > 0 || media != t || strings.Count(t, "/") != 1 || strings.Contains(strings.TrimSuffix(t, "/*"), "*") {
			return bus.Errorf(bus.InvalidArgument, "compress.types["+strconv.Itoa(i)+"]: %.80q: want type/subtype or type/*, in lower case", t)
		}
		if t == events {
			return bus.Errorf(bus.InvalidArgument, "compress.types[%d]: %s is never compressed", i, events)
		}
	}
	return nil
}

const events = "text/event-stream"

// takes tells whether an answer of that Content-Type is compressed.
func (c Config) takes(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if media == events {
		return false
	}
	if len(c.Types) == 0 {
		main, sub, _ := strings.Cut(media, "/")
		return main == "text" || main == "application" && (slices.Contains([]string{"json", "xml", "javascript", "wasm"}, sub) ||
			strings.HasSuffix(sub, "+json") || strings.HasSuffix(sub, "+xml"))
	}
	main, _, _ := strings.Cut(media, "/")
	return slices.Contains(c.Types, media) || slices.Contains(c.Types, main+"/*")
}

// New checks cfg and makes what wraps a handler by it. Answers get Vary: Accept-Encoding, and a strong ETag of a compressed one is left out, since
// it would be that of other bytes. What the handler has encoded itself stays as it is.
func New(cfg Config) (func(http.Handler) http.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	wrap, err := gzhttp.NewWrapper(
		gzhttp.MinSize(cmp.Or(cfg.MinSize, DefaultMinSize)),
		gzhttp.CompressionLevel(cmp.Or(cfg.Level, DefaultLevel)),
		gzhttp.ContentTypeFilter(cfg.takes),
		gzhttp.EnableZstd(false), // its windows cost megabytes for each answer under way
		gzhttp.DropETag(),
		gzhttp.RandomJitter(cfg.Jitter, 0, true),
	)
	if err != nil {
		return nil, bus.Wrap(bus.InvalidArgument, "compress: "+err.Error(), err)
	}
	return func(next http.Handler) http.Handler {
		compressed := wrap(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if wantsEvents(r) {
				next.ServeHTTP(w, r)
				return
			}
			compressed.ServeHTTP(w, r)
		})
	}, nil
}

// wantsEvents tells whether the answer may be a stream of events, which nothing may hold back.
func wantsEvents(r *http.Request) bool {
	for _, accept := range r.Header["Accept"] {
		if strings.Contains(strings.ToLower(accept), events) {
			return true
		}
	}
	return false
}
