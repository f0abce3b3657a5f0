package interceptors

import (
	"context"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// LimitConfig says how a [Limiter] adapts. The names and defaults are those of Netflix's concurrency-limits (AIMDLimit), save
// that Timeout is shorter and Min is lower.
type LimitConfig struct {
	// Initial is how many calls may be under way at first. 0 means 20.
	Initial int
	// Min and Max bound what the limit becomes. 0 means 1 and 1,000.
	Min, Max int
	// Timeout is how long a call may take before it counts as a sign of too much work. 0 means 1 s.
	Timeout time.Duration
	// BackoffRatio is what the limit is multiplied by then. 0 means 0.9; it must be at least 0.5 and below 1.
	BackoffRatio float64
}

// Limiter bounds the calls under way by additive increase and multiplicative decrease: while calls are quick and the limit
// is used, it grows by one for as many calls as it allows; a slow call, or one that ended at its deadline or as unavailable,
// lowers it, at most once for the calls that were under way together. Above the limit calls are refused at once as overloaded,
// which makes clients try another instance. It is safe for concurrent use.
type Limiter struct {
	cfg LimitConfig

	mu       sync.Mutex
	limit    float64
	inFlight int
	lowered  time.Time
}

// NewLimiter checks cfg and makes a limiter; several interceptors or endpoints may share one.
func NewLimiter(cfg LimitConfig) (*Limiter, error) {
	if cfg.Min == 0 {
		cfg.Min = 1
	}
	if cfg.Max == 0 {
		cfg.Max = 1000
	}
	if cfg.Initial == 0 {
		cfg.Initial = min(max(20, cfg.Min), cfg.Max)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Second
	}
	if cfg.BackoffRatio == 0 {
		cfg.BackoffRatio = 0.9
	}
	if cfg.Min < 1 || cfg.Min > cfg.Max || cfg.Initial < cfg.Min || cfg.Initial > cfg.Max {
		return nil, bus.Errorf(bus.InvalidArgument, "limit: Min %d, Initial %d, Max %d: want 1 <= Min <= Initial <= Max", cfg.Min, cfg.Initial, cfg.Max)
	}
	if cfg.Timeout < 0 || cfg.BackoffRatio < 0.5 || cfg.BackoffRatio >= 1 {
		return nil, bus.Errorf(bus.InvalidArgument, "limit: Timeout %v, BackoffRatio %v: want a positive time and a ratio from 0.5 to below 1", cfg.Timeout, cfg.BackoffRatio)
	}
	return &Limiter{cfg: cfg, limit: float64(cfg.Initial)}, nil
}

// Limit is how many calls may be under way now.
func (l *Limiter) Limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.limit)
}

// InFlight is how many calls are under way.
func (l *Limiter) InFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight
}

// Intercept is the limiter as an interceptor.
func (l *Limiter) Intercept(next micro.UnaryHandler) micro.UnaryHandler {
	return func(ctx context.Context, call *micro.Unary) (resp any, err error) {
		limit, ok := l.acquire()
		if !ok {
			return nil, bus.Errorf(bus.Unavailable, "%s.%s: %d calls are under way, the limit of this moment", call.Service, call.Endpoint, limit).
				With("reason", micro.ReasonOverloaded)
		}
		start := time.Now()
		failed := true // of a panic
		defer func() { l.release(start, failed) }()
		resp, err = next(ctx, call)
		code := bus.CodeOf(err)
		failed = code == bus.DeadlineExceeded || code == bus.Unavailable
		return resp, err
	}
}

var _ micro.Interceptor = (*Limiter)(nil).Intercept

func (l *Limiter) acquire() (limit int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inFlight >= int(l.limit) {
		return int(l.limit), false
	}
	l.inFlight++
	return int(l.limit), true
}

func (l *Limiter) release(start time.Time, failed bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	used := 2*l.inFlight >= int(l.limit)
	l.inFlight--
	switch {
	case failed || now.Sub(start) > l.cfg.Timeout:
		if start.After(l.lowered) { // else it was under way when another lowered the limit
			l.limit = max(float64(l.cfg.Min), l.limit*l.cfg.BackoffRatio)
			l.lowered = now
		}
	case used:
		l.limit = min(float64(l.cfg.Max), l.limit+1/l.limit)
	}
}
