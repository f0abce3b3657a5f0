package config

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Keys that skybus itself reads or keeps for one meaning.
const (
	// Region is where an instance runs, text. It is read when a service starts.
	Region = "region"
	// Host is the name an instance gives its host, text. It is read when a service starts.
	Host = "host"
	// LogLevel is the least level that is logged: debug, info, warn, error, or one of these with an offset as in info+2.
	LogLevel = "log.level"
	// ClientTimeoutRetry is after how long a call that is not answered is sent to another instance, a duration.
	ClientTimeoutRetry = "client.timeout.retry"
	// ClientTimeoutTotal is after how long a call is given up, a duration.
	ClientTimeoutTotal = "client.timeout.total"
	// ClientCanary is the weight of each version of the service that is called, as in {"1.2.0": 95, "1.3.0": 5}.
	ClientCanary = "client.canary"
	// ServiceRegister says whether instances take requests, true or false.
	ServiceRegister = "service.register"
)

// CheckValue tells whether value, as it is written to the bucket, can be read under one of the keys above by what that means.
// Under other keys anything may be written. The error has the code invalid_argument and does not quote the value.
func CheckValue(key string, value []byte) error {
	raw, err := normalize(value)
	switch key {
	case LogLevel:
		err = meant[slog.Level](raw, err, "want debug, info, warn or error", nil)
	case ClientTimeoutRetry, ClientTimeoutTotal:
		err = meant(raw, err, "want a duration above 0 as in 1.5s or 2m", func(d time.Duration) bool { return d > 0 })
	case ClientCanary:
		err = meant(raw, err, `want weights of versions, 0 or more, as in {"1.2.0": 95, "1.3.0": 5}`, validWeights)
	case ServiceRegister:
		err = meant[bool](raw, err, "want true or false", nil)
	default:
		return nil
	}
	if err != nil {
		return bus.Errorf(bus.InvalidArgument, "value of %q: %w", key, err)
	}
	return nil
}

// meant tells whether raw is a T that check takes, and what is wanted instead.
func meant[T any](raw json.RawMessage, err error, want string, check func(T) bool) error {
	var v T
	if err != nil || decode(raw, &v) != nil || check != nil && !check(v) {
		return errors.New(want)
	}
	return nil
}

func validWeights(weights map[string]int) bool {
	for version, weight := range weights {
		if bus.CheckVersion(version) != nil || weight < 0 {
			return false
		}
	}
	return true
}

// FollowLogLevel sets level to what [LogLevel] says, now and at each change, until ctx ends or v is closed. Where it is not
// set, level is what it was at first.
func FollowLogLevel(ctx context.Context, v *Values, scope Scope, level *slog.LevelVar) {
	for l := range Watch(ctx, v, scope, LogLevel, level.Level()) {
		level.Set(l)
	}
}

// FollowRegister calls f with what [ServiceRegister] says, now and at each change, until ctx ends or v is closed. Where it
// is not set, it is def. f is called by the goroutine that called FollowRegister.
func FollowRegister(ctx context.Context, v *Values, scope Scope, def bool, f func(registered bool)) {
	for registered := range Watch(ctx, v, scope, ServiceRegister, def) {
		f(registered)
	}
}
