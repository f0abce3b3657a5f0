package micro

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// EndpointStats are the figures of one endpoint since the service started.
type EndpointStats struct {
	Name     string        `json:"name"`
	Requests uint64        `json:"requests"` // handled, well or not
	Errors   uint64        `json:"errors"`
	Panics   uint64        `json:"panics"`
	Shed     uint64        `json:"shed"` // refused because too many were in flight
	InFlight int64         `json:"in_flight"`
	Limit    int64         `json:"limit"`
	Time     time.Duration `json:"time"` // spent in handlers, all together, with the wait for their turn where they are serial
	LastErr  string        `json:"last_error,omitempty"`
}

// Stats are the figures of a service.
type Stats struct {
	Endpoints []EndpointStats `json:"endpoints"`
	// Dropped counts messages that were no honest request, by reason.
	Dropped map[bus.Drop]uint64 `json:"dropped"`
}

// Stats are the service's figures now.
func (s *Service) Stats() Stats {
	st := Stats{Dropped: s.drops.all()}
	for _, ep := range s.sortedEndpoints() {
		st.Endpoints = append(st.Endpoints, ep.figures())
	}
	return st
}

func (e *endpoint) figures() EndpointStats {
	st := EndpointStats{
		Name:     e.name,
		Requests: e.stats.requests.Load(),
		Errors:   e.stats.errors.Load(),
		Panics:   e.stats.panics.Load(),
		Shed:     e.stats.shed.Load(),
		InFlight: e.inFlight.Load(),
		Limit:    e.limit,
		Time:     time.Duration(e.stats.nanos.Load()),
	}
	if last := e.stats.last.Load(); last != nil {
		st.LastErr = *last
	}
	return st
}

type endpointStats struct {
	requests, errors, panics, shed atomic.Uint64
	nanos                          atomic.Int64
	last                           atomic.Pointer[string]

	told, toldNanos atomic.Int64 // what the last heartbeat knew
}

func (st *endpointStats) done(took time.Duration, err error) {
	st.requests.Add(1)
	st.nanos.Add(int64(took))
	if err != nil {
		st.failed(err)
	}
}

// failed counts an error, of a request that is counted by done.
func (st *endpointStats) failed(err error) {
	st.errors.Add(1)
	st.last.Store(new(err.Error()))
}

// load sums up the endpoints for the heartbeat.
func (s *Service) load() registry.Load {
	var l registry.Load
	var requests, nanos int64
	for _, ep := range s.sortedEndpoints() {
		l.InFlight += int(ep.inFlight.Load())
		l.Limit += int(ep.limit)
		l.Shed += ep.stats.shed.Load()
		if ep.stream != nil {
			continue // how long a stream stays open says nothing of the load
		}
		n, t := int64(ep.stats.requests.Load()), ep.stats.nanos.Load()
		requests += n - ep.stats.told.Swap(n)
		nanos += t - ep.stats.toldNanos.Swap(t)
	}
	if requests > 0 {
		l.Latency = nanos / requests / int64(time.Microsecond)
	}
	return l
}

// dropCounts counts dropped messages by reason.
type dropCounts struct {
	jetStream, noReply, foreignReply, notOneWay, unknownCancel, foreignCancel atomic.Uint64
}

func (d *dropCounts) add(reason bus.Drop) {
	switch reason {
	case bus.DropJetStream:
		d.jetStream.Add(1)
	case bus.DropNoReply:
		d.noReply.Add(1)
	case bus.DropForeignReply:
		d.foreignReply.Add(1)
	case bus.DropNotOneWay:
		d.notOneWay.Add(1)
	case DropUnknownCancel:
		d.unknownCancel.Add(1)
	case DropForeignCancel:
		d.foreignCancel.Add(1)
	}
}

func (d *dropCounts) all() map[bus.Drop]uint64 {
	return map[bus.Drop]uint64{
		bus.DropJetStream:    d.jetStream.Load(),
		bus.DropNoReply:      d.noReply.Load(),
		bus.DropForeignReply: d.foreignReply.Load(),
		bus.DropNotOneWay:    d.notOneWay.Load(),
		DropUnknownCancel:    d.unknownCancel.Load(),
		DropForeignCancel:    d.foreignCancel.Load(),
	}
}

// buildRevision is the commit the program was built from, as far as it knows.
func buildRevision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}
