package config

import (
	"encoding/json"
	"os"
	"strings"
)

// Layer has values below those in the bucket. It must be safe for concurrent use, and what it says must not change: a
// reader asks it once.
type Layer interface {
	// Setting is the value, as JSON, that the layer has for a version of a service; both may be empty.
	Setting(service, version, key string) (json.RawMessage, bool)
}

// environment is values by the name of their variable.
type environment map[string]json.RawMessage

var _ Layer = environment(nil)

// Environment is the variables that begin with SKYBUS_, of environ as [os.Environ] gives them, or of the process when it is
// nil. They are read now. Variables hold for every service, and an empty one is not set.
//
// The variable of a key is SKYBUS_ and the key in upper case with "_" for each "." and "-": SKYBUS_CLIENT_TIMEOUT_TOTAL for
// client.timeout.total. Keys that differ only in these characters share a variable, and keys of one word share theirs with
// the flags of the command line (SKYBUS_SERVER, SKYBUS_NAMESPACE).
func Environment(environ []string) Layer {
	if environ == nil {
		environ = os.Environ()
	}
	e := environment{}
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || text == "" {
			continue
		}
		if raw, err := normalize([]byte(text)); err == nil {
			e[name] = raw
		}
	}
	return e
}

const envPrefix = "SKYBUS_"

// Setting ignores who asks.
func (e environment) Setting(_, _, key string) (json.RawMessage, bool) {
	if len(e) == 0 || len(key) > MaxKey {
		return nil, false
	}
	var buf [len(envPrefix) + MaxKey]byte
	name := append(buf[:0], envPrefix...)
	for i := range len(key) {
		c := key[i]
		switch {
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		case c == '.' || c == '-':
			c = '_'
		}
		name = append(name, c)
	}
	raw, ok := e[string(name)]
	return raw, ok
}
