package config

import (
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Limits of keys and values.
const (
	MaxKey   = 128      // characters of a key
	MaxDepth = 8        // tokens of a key
	MaxValue = 64 << 10 // bytes of a value
)

const anyToken = "_" // in place of a service or a version: for all of them

// Scope says for whom a value is meant, or who reads it. Empty means for all. A version without a service means nothing.
type Scope struct {
	Service string
	Version string
}

// Check tells whether values can be written for the scope: the service is a token other than "_", and a version is one of a
// service.
func (s Scope) Check() error {
	switch {
	case s.Service == anyToken:
		return bus.Errorf(bus.InvalidArgument, "service %q: the name stands for all services", s.Service)
	case s.Service == "" && s.Version != "":
		return bus.Errorf(bus.InvalidArgument, "version %.80q without a service: a version is one of a service", s.Version)
	case s.Service != "":
		if err := bus.CheckToken("service", s.Service); err != nil {
			return err
		}
	}
	if s.Version != "" {
		return bus.CheckVersion(s.Version)
	}
	return nil
}

// wider is the scope and those around it, narrowest first.
func (s Scope) wider() (scopes [3]Scope, n int) {
	if s.Service != "" && s.Version != "" {
		scopes[n] = s
		n++
	}
	if s.Service != "" {
		scopes[n] = Scope{Service: s.Service}
		n++
	}
	return scopes, n + 1
}

// CheckKey tells whether key can be a key: up to [MaxDepth] tokens of [bus.CheckToken] joined by dots, [MaxKey] characters
// in all.
func CheckKey(key string) error {
	if len(key) > MaxKey {
		return bus.Errorf(bus.InvalidArgument, "key %.16q... has %d characters: want 1 to %d", key, len(key), MaxKey)
	}
	if n := 1 + strings.Count(key, "."); n > MaxDepth {
		return bus.Errorf(bus.InvalidArgument, "key %q has %d parts: want 1 to %d", key, n, MaxDepth)
	}
	for part := range strings.SplitSeq(key, ".") {
		if err := bus.CheckToken(fmt.Sprintf("key %q: part", key), part); err != nil {
			return err
		}
	}
	return nil
}

// BucketKey is the key in the bucket of the value of key in a scope: <app>.<env>.<service or _>.<version token or _>.<key>.
func BucketKey(ns bus.Namespace, s Scope, key string) (string, error) {
	if err := s.Check(); err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	if err := CheckKey(key); err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	service, version := anyToken, anyToken
	if s.Service != "" {
		service = s.Service
	}
	if s.Version != "" {
		version = bus.VersionToken(s.Version)
	}
	bucketKey := ns.Key(service, version, key)
	if err := kv.CheckKey(bucketKey); err != nil {
		return "", fmt.Errorf("config: key %q: %w", key, err)
	}
	return bucketKey, nil
}

// ParseBucketKey is the reverse of [BucketKey]. A key of another namespace is an error.
func ParseBucketKey(ns bus.Namespace, bucketKey string) (Scope, string, error) {
	rest, ok := strings.CutPrefix(bucketKey, ns.String()+".")
	tokens := strings.SplitN(rest, ".", 3)
	if !ok || len(tokens) < 3 {
		return Scope{}, "", bus.Errorf(bus.InvalidArgument, "config: key %.80q: want %s.<service or _>.<version or _>.<key>", bucketKey, ns)
	}
	var s Scope
	if tokens[0] != anyToken {
		s.Service = tokens[0]
	}
	if tokens[1] != anyToken {
		s.Version = strings.NewReplacer("_", ".", "=", "+").Replace(tokens[1])
	}
	again, err := BucketKey(ns, s, tokens[2])
	if err == nil && again != bucketKey {
		err = bus.Errorf(bus.InvalidArgument, "config: key %.80q is not as it is written", bucketKey)
	}
	if err != nil {
		return Scope{}, "", err
	}
	return s, tokens[2], nil
}
