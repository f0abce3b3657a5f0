package main

import (
	"time"

	"github.com/skybus-io/skybus/scheduler"
)

// The measurements of timers by name. nameTimers is all of them but the large ones.
const (
	nameTimers           = "timers"
	nameTimersCreate     = "timers-create"
	nameTimersHTTP       = "timers-http"
	nameTimersCluster    = "timers-cluster"
	nameTimersLate       = "timers-late"
	nameTimersHooks      = "timers-hooks"
	nameTimersAlone      = "timers-alone"
	nameTimersMillion    = "timers-million"
	nameTimersTenMillion = "timers-tenmillion"
)

const (
	timerBody   = 100 // bytes
	farAway     = time.Hour
	timerRounds = 3 // windows, at most, of what waits for timers to be due
)

// rounds is how many windows measurements have in which timers become due.
func (s settings) rounds() int {
	if s.quick {
		return 1
	}
	return min(s.windows, timerRounds)
}

// made is what came of creating timers, or of storing plain messages beside them.
type made struct {
	Count   int           `json:"count"`
	Elapsed time.Duration `json:"elapsed"` // until the last was acknowledged
	Bytes   uint64        `json:"bytes"`   // in the streams
	Last    time.Time     `json:"last"`    // when the last one is due

	begin time.Time // of the creating process
}

func (m made) rate() float64 { return float64(m.Count) / m.Elapsed.Seconds() }

// quantiles are of durations.
type quantiles struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

func quantilesOf(h *histogram) quantiles {
	return quantiles{h.quantile(0.5), h.quantile(0.99), h.quantile(1)}
}

func (q quantiles) millis() []float64 { return []float64{millis(q.P50), millis(q.P99), millis(q.Max)} }

// timerTarget is where timers go that are never due in a measurement.
func timerTarget() scheduler.Target { return scheduler.Target{URI: "http://127.0.0.1:9999/hook"} }
