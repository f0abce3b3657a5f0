package micro

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
)

// Keys of the metadata that ADR-32 discovery shows of every skybus service and its endpoints.
const (
	MetadataNamespace = "skybus.namespace"
	MetadataRegion    = "skybus.region"
	MetadataHost      = "skybus.host"
	// MetadataRegistered is "false" for an instance that takes no requests now but those sent to it by name.
	MetadataRegistered = "skybus.registered"
	// MetadataInternal is "true" in the metadata of an endpoint that is internal (see [Internal]), of whatever library the service is.
	MetadataInternal = "skybus.internal"
)

// controlPlaces are where a service listens beside its endpoints: its own control subject, where requests are canceled, and
// the nine subjects of ADR-32.
func (s *Service) controlPlaces(r *run) []place {
	ns := s.conn.Namespace()
	places := []place{
		{ns.ControlSubject(s.cfg.Name, s.cfg.Instance, "*"), "", s.guarded(func(m *nats.Msg) { s.control(r, m) })},
		{ns.ControlSubject(s.cfg.Name, everyInstance, verbCancel), "", s.guarded(s.cancelRequest)},
	}
	for verb, answer := range map[natsmicro.Verb]func() any{
		natsmicro.PingVerb:  func() any { return natsmicro.Ping{ServiceIdentity: s.identity(), Type: natsmicro.PingResponseType} },
		natsmicro.InfoVerb:  func() any { return s.info() },
		natsmicro.StatsVerb: func() any { return s.natsStats() },
	} {
		cb := s.guarded(func(m *nats.Msg) { s.respondJSON(m, answer()) })
		for _, parts := range [][]string{{}, {s.cfg.Name}, {s.cfg.Name, s.cfg.Instance}} {
			subject := strings.Join(append([]string{natsmicro.APIPrefix, verb.String()}, parts...), ".")
			places = append(places, place{subject, "", cb})
		}
	}
	return places
}

// guarded lets only messages through whose sender waits for the answer in an inbox.
func (s *Service) guarded(cb nats.MsgHandler) nats.MsgHandler {
	return func(m *nats.Msg) {
		if drop := s.conn.CheckRequest(m); drop != "" {
			s.drops.add(drop)
			return
		}
		cb(m)
	}
}

func (s *Service) respondJSON(m *nats.Msg, v any) {
	reply, err := s.encode(bus.JSON{}, v)
	if err != nil {
		reply = bus.NewErrorReply(bus.JSON{}, err)
	}
	_ = s.respond(m, reply) // nobody counts these
}

func (s *Service) identity() natsmicro.ServiceIdentity {
	metadata := maps.Clone(s.cfg.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata[MetadataNamespace] = s.conn.Namespace().String()
	if s.cfg.Region != "" {
		metadata[MetadataRegion] = s.cfg.Region
	}
	if s.cfg.Host != "" {
		metadata[MetadataHost] = s.cfg.Host
	}
	if !s.Registered() {
		metadata[MetadataRegistered] = "false"
	}
	return natsmicro.ServiceIdentity{Name: s.cfg.Name, ID: s.cfg.Instance, Version: s.cfg.Version, Metadata: metadata}
}

func (s *Service) info() natsmicro.Info {
	info := natsmicro.Info{
		ServiceIdentity: s.identity(),
		Type:            natsmicro.InfoResponseType,
		Description:     s.cfg.Description,
		Endpoints:       []natsmicro.EndpointInfo{},
	}
	for _, ep := range s.sortedEndpoints() {
		e := natsmicro.EndpointInfo{
			Name:       ep.name,
			Subject:    s.conn.Namespace().ServiceSubject(s.cfg.Name, ep.name),
			QueueGroup: bus.QueueService,
		}
		if ep.internal {
			e.Metadata = map[string]string{MetadataInternal: "true"}
		}
		info.Endpoints = append(info.Endpoints, e)
	}
	return info
}

func (s *Service) natsStats() natsmicro.Stats {
	stats := natsmicro.Stats{
		ServiceIdentity: s.identity(),
		Type:            natsmicro.StatsResponseType,
		Started:         s.started,
		Endpoints:       []*natsmicro.EndpointStats{},
	}
	for _, ep := range s.sortedEndpoints() {
		f := ep.figures()
		st := &natsmicro.EndpointStats{
			Name:           f.Name,
			Subject:        s.conn.Namespace().ServiceSubject(s.cfg.Name, ep.name),
			QueueGroup:     bus.QueueService,
			NumRequests:    int(f.Requests),
			NumErrors:      int(f.Errors),
			LastError:      f.LastErr,
			ProcessingTime: f.Time,
		}
		if f.Requests > 0 {
			st.AverageProcessingTime = f.Time / time.Duration(f.Requests)
		}
		st.Data, _ = json.Marshal(f) // numbers and strings always encode
		stats.Endpoints = append(stats.Endpoints, st)
	}
	return stats
}
