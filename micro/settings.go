package micro

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/config"
)

// Settings are what may change while a client runs. Setting is asked at each call, concurrently, and so must not wait. It
// returns the value for a version of a service (empty where the call is to any), which may be that of the service or of
// all services, and whether there is one; what it returned must not be changed after.
//
// A client asks for
//   - [config.ClientTimeoutTotal]: how long a call may take whose ctx has no deadline, as "10s";
//   - [config.ClientTimeoutRetry]: how long an attempt of an idempotent call may take before there is another, and after which
//     time [Send] sends to another instance, as "2s";
//   - [config.ClientCanary]: how calls that ask for no version are shared out among the versions, as {"1.2.0":95,"1.3.0":5};
//     see [balance.Canary].
//
// A value that is none of that is ignored, and told to the log once. Of a [config.Values] the last good value stays.
type Settings interface {
	Setting(service, version, key string) (value json.RawMessage, ok bool)
}

var (
	_ Settings = (*config.Values)(nil)
	_ Settings = NoSettings{}
)

// NoSettings are settings without values: for a client that does not follow the live configuration.
type NoSettings struct{}

// Setting has no value.
func (NoSettings) Setting(_, _, _ string) (json.RawMessage, bool) { return nil, false }

// mostParsed is how many values are kept parsed.
const mostParsed = 256

// liveSettings are settings, parsed.
type liveSettings struct {
	source Settings
	own    *ownSettings // the source, where the client opened it
	log    *slog.Logger

	// Of values, which parses what it has by itself, and keeps the last that was good.
	positive []config.Option[time.Duration]
	weighing []config.Option[map[string]int]

	mu        sync.Mutex
	durations map[string]time.Duration // by their text; 0 for one that means nothing
	weights   map[string]map[string]int
}

func newLiveSettings(source Settings, log *slog.Logger) *liveSettings {
	return &liveSettings{
		source:    source,
		log:       log,
		positive:  []config.Option[time.Duration]{config.Check(checkPositive)},
		weighing:  []config.Option[map[string]int]{config.Check(checkWeights)},
		durations: map[string]time.Duration{},
		weights:   map[string]map[string]int{},
	}
}

// values is the source where it parses by itself, nil where it does not.
func (s *liveSettings) values() *config.Values {
	if s.own != nil {
		return s.own.values.Load()
	}
	v, _ := s.source.(*config.Values)
	return v
}

func (s *liveSettings) total(r *Request, def time.Duration) time.Duration {
	return s.duration(r, config.ClientTimeoutTotal, def)
}

func (s *liveSettings) retry(r *Request, def time.Duration) time.Duration {
	return s.duration(r, config.ClientTimeoutRetry, def)
}

func (s *liveSettings) duration(r *Request, key string, def time.Duration) time.Duration {
	if v := s.values(); v != nil {
		return config.Get(v, config.Scope{Service: r.Service, Version: r.Version}, key, def, s.positive...)
	}
	raw, ok := s.source.Setting(r.Service, r.Version, key)
	if !ok {
		return def
	}
	return orDefault(parsed(s, s.durations, r.Service, key, raw, parseDuration), def)
}

// canary are the weights of versions, nil when there are none.
func (s *liveSettings) canary(r *Request) map[string]int {
	if r.Version != "" {
		return nil
	}
	if v := s.values(); v != nil {
		if weights := config.Get(v, config.Scope{Service: r.Service}, config.ClientCanary, nil, s.weighing...); anyWeight(weights) {
			return weights
		}
		return nil
	}
	raw, ok := s.source.Setting(r.Service, "", config.ClientCanary)
	if !ok {
		return nil
	}
	return parsed(s, s.weights, r.Service, config.ClientCanary, raw, parseWeights)
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
	return d, checkPositive(d)
}

func checkPositive(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%v: want more than 0", d)
	}
	return nil
}

func parseWeights(raw json.RawMessage) (map[string]int, error) {
	var weights map[string]int
	if err := json.Unmarshal(raw, &weights); err != nil {
		return nil, fmt.Errorf("%.80q: want weights by version, as in {\"1.2.0\":95}", raw)
	}
	if err := checkWeights(weights); err != nil || !anyWeight(weights) {
		return nil, err
	}
	return weights, nil
}

func checkWeights(weights map[string]int) error {
	for version, w := range weights {
		if err := bus.CheckVersion(version); err != nil {
			return errors.New(bus.AsError(err).Message)
		}
		if w < 0 {
			return fmt.Errorf("weight %d of %q: want 0 or more", w, version)
		}
	}
	return nil
}

// anyWeight tells whether a version has a share. Weights without are as good as none.
func anyWeight(weights map[string]int) bool {
	for _, w := range weights {
		if w > 0 {
			return true
		}
	}
	return false
}
