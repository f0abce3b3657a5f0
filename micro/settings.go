package micro

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Settings are what may change while a client runs. Setting is asked at each call, concurrently, and so must not wait. It
// returns the value for a version of a service (empty where the call is to any), which may be that of the service or of
// all services, and whether there is one; what it returned must not be changed after.
//
// A client asks for
//   - "client.timeout.total": how long a call may take whose ctx has no deadline, as "10s";
//   - "client.timeout.retry": how long an attempt of an idempotent call may take before there is another, and after which
//     time [Send] sends to another instance, as "2s";
//   - "client.canary": how calls that ask for no version are shared out among the versions, as {"1.2.0":95,"1.3.0":5}; see
//     [balance.Canary].
//
// A value that is none of that is ignored, and told to the log once.
type Settings interface {
	Setting(service, version, key string) (value json.RawMessage, ok bool)
}

// Keys of [Settings].
const (
	SettingTotal  = "client.timeout.total"
	SettingRetry  = "client.timeout.retry"
	SettingCanary = "client.canary"
)

// mostParsed is how many values are kept parsed.
const mostParsed = 256

// liveSettings are settings, parsed. A nil one has none.
type liveSettings struct {
	source Settings
	log    *slog.Logger

	mu        sync.Mutex
	durations map[string]time.Duration // by their text; 0 for one that means nothing
	weights   map[string]map[string]int
}

func newLiveSettings(source Settings, log *slog.Logger) *liveSettings {
	if source == nil {
		return nil
	}
	return &liveSettings{source: source, log: log, durations: map[string]time.Duration{}, weights: map[string]map[string]int{}}
}

func (s *liveSettings) total(r *Request, def time.Duration) time.Duration {
	return s.duration(r, SettingTotal, def)
}

func (s *liveSettings) retry(r *Request, def time.Duration) time.Duration {
	return s.duration(r, SettingRetry, def)
}

func (s *liveSettings) duration(r *Request, key string, def time.Duration) time.Duration {
	if s == nil {
		return def
	}
	raw, ok := s.source.Setting(r.Service, r.Version, key)
	if !ok {
		return def
	}
	return orDefault(parsed(s, s.durations, r.Service, key, raw, parseDuration), def)
}

// canary are the weights of versions, nil when there are none.
func (s *liveSettings) canary(r *Request) map[string]int {
	if s == nil || r.Version != "" {
		return nil
	}
	raw, ok := s.source.Setting(r.Service, "", SettingCanary)
	if !ok {
		return nil
	}
	return parsed(s, s.weights, r.Service, SettingCanary, raw, parseWeights)
}

// parsed is raw as a T, by a cache of all values seen. It is the zero value, and told to the log once, where raw is none.
func parsed[T any](s *liveSettings, cache map[string]T, service, key string, raw json.RawMessage, parse func(json.RawMessage) (T, error)) T {
	s.mu.Lock()
	v, ok := cache[string(raw)]
	s.mu.Unlock()
	if ok {
		return v
	}
	v, err := parse(raw)
	if err != nil {
		var none T
		v = none
	}
	s.mu.Lock()
	_, known := cache[string(raw)]
	if len(cache) >= mostParsed {
		clear(cache)
	}
	cache[string(raw)] = v
	s.mu.Unlock()
	if err != nil && !known {
		s.log.Warn("setting is ignored", "service", service, "key", key, "error", err)
	}
	return v
}

func parseDuration(raw json.RawMessage) (time.Duration, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, fmt.Errorf("%.80q: want a duration in quotes, as in \"2s\"", raw)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%.80q: want a duration, as in \"2s\"", text)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%.80q: want more than 0", text)
	}
	return d, nil
}

func parseWeights(raw json.RawMessage) (map[string]int, error) {
	var weights map[string]int
	if err := json.Unmarshal(raw, &weights); err != nil {
		return nil, fmt.Errorf("%.80q: want weights by version, as in {\"1.2.0\":95}", raw)
	}
	sum := 0
	for version, w := range weights {
		if err := bus.CheckVersion(version); err != nil {
			return nil, errors.New(bus.AsError(err).Message)
		}
		if w < 0 {
			return nil, fmt.Errorf("weight %d of %q: want 0 or more", w, version)
		}
		sum += w
	}
	if sum <= 0 {
		return nil, nil // as good as none
	}
	return weights, nil
}
