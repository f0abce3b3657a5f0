package http

import (
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	headerTrace        = "Skybus-Trace"
	headerServerTiming = "Server-Timing"
	maxTimings         = 32
)

// serverTiming is the value of Server-Timing (W3C): how long the gateway took until now, and each step of a route or call made on the way, by
// "service.endpoint", in milliseconds. It tells of no instance.
func (x *exchange) serverTiming(reply initiators.Reply) string {
	var b strings.Builder
	n := 0
	add := func(name string, took time.Duration) {
		if n++; n > maxTimings {
			return
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name + ";dur=" + strconv.FormatFloat(float64(took.Microseconds())/1000, 'f', -1, 64))
	}
	add("gateway", time.Since(x.begin))
	var steps func(hops []route.Hop)
	steps = func(hops []route.Hop) {
		for _, h := range hops {
			add(strings.ReplaceAll(h.Target(), " ", "-"), h.Took)
			steps(h.Hops)
		}
	}
	steps(reply.Hops)
	for _, h := range reply.Trace {
		if a, err := bus.ParseAddress(h.Address); err == nil {
			add(a.Service+"."+h.Endpoint, h.Took)
		}
	}
	return b.String()
}
