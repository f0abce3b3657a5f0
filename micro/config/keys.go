package config

import (
	"context"
	"log/slog"
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
