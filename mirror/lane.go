package mirror

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// keyFunc adds what decides about the lane of a request to h.
type keyFunc func(h laneHash, r *http.Request) laneHash

// laneHash is FNV-1a.
type laneHash uint64

const (
	hashStart laneHash = 14695981039346656037
	hashPrime laneHash = 1099511628211
)

func (h laneHash) add(s string) laneHash {
	for i := range len(s) {
		h = (h ^ laneHash(s[i])) * hashPrime
	}
	return (h ^ 0xff) * hashPrime // no byte of text: "a"+"b" is another key than "ab"
}

func (h laneHash) lane(lanes int) int {
	h ^= h >> 32                          // the low bits of FNV-1a alone are poor
	return int(uint64(h) % uint64(lanes)) //nolint:gosec // below lanes
}

// lane is where the writes of r, and reads of the same thing, belong.
func (m *Mirror) lane(r *http.Request) int {
	if m.cfg.Lanes == 1 {
		return 0
	}
	return m.key(hashStart, r).lane(m.cfg.Lanes)
}

// parseKey reads an expression of [Config].Key.
func parseKey(text string) (keyFunc, error) {
	var keys []keyFunc
	for part := range strings.SplitSeq(text, "+") {
		kind, arg, has := strings.Cut(part, ":")
		switch {
		case part == "path":
			keys = append(keys, func(h laneHash, r *http.Request) laneHash { return h.add(r.URL.Path) })
		case kind == "path" && has:
			n, err := strconv.Atoi(arg)
			if err != nil || n < 1 || n > 32 {
				return nil, bus.Errorf(bus.InvalidArgument, "mirror: key %q: want 1 to 32 segments of the path", part).With("field", "key")
			}
			keys = append(keys, func(h laneHash, r *http.Request) laneHash { return h.add(segments(r.URL.Path, n)) })
		case kind == "query" && arg != "":
			keys = append(keys, func(h laneHash, r *http.Request) laneHash { return h.add(queryValue(r.URL, arg)) })
		case kind == "header" && isToken(arg):
			name := http.CanonicalHeaderKey(arg)
			keys = append(keys, func(h laneHash, r *http.Request) laneHash { return h.add(r.Header.Get(name)) })
		default:
			return nil, bus.Errorf(bus.InvalidArgument, "mirror: key %q: want path, path:N, query:NAME or header:NAME, joined by +", part).With("field", "key")
		}
	}
	if len(keys) == 1 {
		return keys[0], nil
	}
	return func(h laneHash, r *http.Request) laneHash {
		for _, key := range keys {
			h = key(h, r)
		}
		return h
	}, nil
}

// segments is the first n segments of a path.
func segments(path string, n int) string {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			if n--; n == 0 {
				return path[:i]
			}
		}
	}
	return path
}

func queryValue(u *url.URL, name string) string {
	if u.RawQuery == "" {
		return ""
	}
	return u.Query().Get(name)
}

// isToken tells whether s may be the name of a header or a method, by RFC 9110.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
