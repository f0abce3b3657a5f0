package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	errNoMetaLeader = 10008
	statusAtOnce    = 256             // streams that are asked at the same time: one whose only server is away takes a second
	fullPercent     = 80              // from which on a stream counts as nearly full
	heartbeatGone   = 4 * time.Second // a follower is heard every second
)

// giveTime is what to do where the time was up.
const giveTime = "give it more (--timeout)"

type statusCmd struct{}

// Help is shown below the usage.
func (*statusCmd) Help() string {
	return `It shows the servers, the streams that all is stored in, and what is wrong: a server that is away, a stream without a leader, one that is
nearly full and then refuses what is new, instances that died. Nothing is changed. The exit code is 1 while something is wrong, so that a monitor can run it. It asks
for all streams of the account, which takes the role admin.

Examples:

    skybus status
    skybus status -o json
    skybus status --server nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222`
}

// fault is something that is wrong, and what to do about it.
type fault struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// streamStatus is a stream, or a bucket, as it is listed.
type streamStatus struct {
	Name     string   `json:"name"`
	Leader   string   `json:"leader,omitempty"`
	Copies   int      `json:"copies"`
	Away     []string `json:"away,omitempty"`
	Behind   []string `json:"behind,omitempty"`
	Messages uint64   `json:"messages"`
	Bytes    uint64   `json:"bytes"`
	Limit    int64    `json:"limit,omitempty"`
	Error    string   `json:"error,omitempty"`
	Unasked  bool     `json:"unasked,omitempty"` // nothing is known of it: the time was up before

	servers []string
	refuses bool // what is new once it is full; others drop what is old
	gone    bool // since it was listed
}

// percent is how full the stream is, -1 where it has no limit.
func (s *streamStatus) percent() int64 {
	if s.Limit <= 0 {
		return -1
	}
	return int64(100 * float64(s.Bytes) / float64(s.Limit))
}

// serverStatus is a server that has copies of streams.
type serverStatus struct {
	Name   string `json:"name"`
	Leads  int    `json:"leads"`
	Copies int    `json:"copies"`
	Away   int    `json:"away"`
	Behind int    `json:"behind"`
}

// platformStatus is all that is shown.
type platformStatus struct {
	Connected string         `json:"connected"`
	Version   string         `json:"version"`
	Cluster   string         `json:"cluster,omitempty"`
	Servers   []serverStatus `json:"servers"`
	Streams   []streamStatus `json:"streams"`
	Instances states         `json:"instances"`
	Faults    []fault        `json:"faults"`
}

// Run shows the state, and fails where something is wrong.
func (*statusCmd) Run(ctx context.Context, app *App) error {
	s, err := query(ctx, app, app.platformStatus)
	if err != nil {
		return err
	}
	if err := s.print(app); err != nil {
		return err
	}
	if n := len(s.Faults); n > 0 {
		return bus.Errorf(bus.FailedPrecondition, "%s", plural(n, "fault"))
	}
	return nil
}

// platformStatus finds the state.
func (a *App) platformStatus(ctx context.Context, conn *bus.Conn) (*platformStatus, error) {
	nc := conn.NATS()
	s := &platformStatus{Connected: nc.ConnectedServerName(), Version: nc.ConnectedServerVersion(), Cluster: nc.ConnectedClusterName(), Faults: []fault{}}
	if err := s.askStreams(ctx, conn); err != nil {
		return nil, err
	}
	s.addServers()
	if err := s.askInstances(ctx, a, conn); err != nil {
		return nil, err
	}
	s.judge()
	return s, nil
}

// askStreams asks for the streams of the account, each for itself: one without a leader does not answer, and must not hide the others.
func (s *platformStatus) askStreams(ctx context.Context, conn *bus.Conn) error {
	js := conn.JetStream()
	err := conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.NAMES"}}, func(ctx context.Context) error {
		lister := js.StreamNames(ctx)
		for name := range lister.Name() {
			s.Streams = append(s.Streams, streamStatus{Name: name})
		}
		return lister.Err()
	})
	if err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return statusHint(err)
	}
	slices.SortFunc(s.Streams, func(a, b streamStatus) int { return cmp.Compare(a.Name, b.Name) })
	var wg sync.WaitGroup
	places := make(chan struct{}, statusAtOnce)
	for i := range s.Streams {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			s.Streams[i].ask(ctx, conn)
		})
	}
	wg.Wait()
	s.Streams = slices.DeleteFunc(s.Streams, func(one streamStatus) bool { return one.gone })
	return nil
}

// statusHint tells what it means that nobody lists the streams.
func statusHint(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if ok && api.ErrorCode == errNoMetaLeader || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		return withHint(fmt.Errorf("no server lists the streams: %w", err),
			"where it is a cluster, a majority of its servers is away or elects a leader: start them again, or wait 10 s; where it is one server, it needs JetStream")
	}
	return err
}

// ask fills in what the stream's servers say of it.
func (s *streamStatus) ask(ctx context.Context, conn *bus.Conn) {
	err := conn.CheckQuorum(ctx, s.Name)
	var stream jetstream.Stream
	if err == nil {
		stream, err = conn.JetStream().Stream(ctx, s.Name)
	}
	switch {
	case err == nil:
	case bus.CodeOf(err) == bus.NotFound, errors.Is(err, jetstream.ErrStreamNotFound):
		s.gone = true
		return
	case ctx.Err() != nil:
		s.Unasked = true
		return
	default:
		s.Error = message(err)
		return
	}
	info := stream.CachedInfo()
	s.refuses = info.Config.Discard == jetstream.DiscardNew
	s.Messages, s.Bytes, s.Limit, s.Copies = info.State.Msgs, info.State.Bytes, max(info.Config.MaxBytes, 0), max(info.Config.Replicas, 1)
	if info.Cluster == nil {
		return
	}
	s.Leader = info.Cluster.Leader
	s.servers = append(s.servers, s.Leader)
	for _, r := range info.Cluster.Replicas {
		s.servers = append(s.servers, r.Name)
		switch {
		case r.Offline || r.Active > heartbeatGone:
			s.Away = append(s.Away, r.Name)
		case !r.Current:
			s.Behind = append(s.Behind, r.Name)
		}
	}
}

// addServers counts what each server has.
func (s *platformStatus) addServers() {
	all := map[string]*serverStatus{}
	of := func(name string) *serverStatus {
		if all[name] == nil {
			all[name] = &serverStatus{Name: name}
		}
		return all[name]
	}
	if s.Connected != "" {
		of(s.Connected)
	}
	for i := range s.Streams {
		stream := &s.Streams[i]
		for _, name := range stream.servers {
			of(name).Copies++
		}
		if stream.Leader != "" {
			of(stream.Leader).Leads++
		}
		for _, name := range stream.Away {
			of(name).Away++
		}
		for _, name := range stream.Behind {
			of(name).Behind++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one := *all[name]
		if one.Away > 0 { // a new leader has not missed it for long enough
			one.Away, one.Behind = one.Away+one.Behind, 0
		}
		s.Servers = append(s.Servers, one)
	}
}

// askInstances counts the instances of the namespace, and finds those that died.
func (s *platformStatus) askInstances(ctx context.Context, app *App, conn *bus.Conn) error {
	reg, err := registry.Open(ctx, conn, registry.Config{Bind: true, Logger: app.log})
	switch {
	case errors.Is(err, kv.ErrNoBucket):
		return nil // nothing was ever there
	case err != nil && s.leaderless("KV_skybus_instances", "KV_skybus_liveness"):
		return nil // that is told
	case err != nil && ctx.Err() != nil:
		s.faulty("not asked in time: the instances", giveTime)
		return nil
	case err != nil:
		return err
	}
	defer func() { _ = reg.Close() }()
	for _, all := range grouped(reg.Instances(registry.Criteria{}), func(i *registry.Instance) string { return i.Service }) {
		var here states
		for _, i := range all {
			here.add(i)
			s.Instances.add(i)
		}
		if here.Offline > 0 {
			s.faulty(fmt.Sprintf("service %s: %s died or stand still, %d online", all[0].Service, plural(here.Offline, "instance"), here.Online),
				"skybus instances --service %s names them; their records go away by themselves where `skybus agent` runs", all[0].Service)
		}
	}
	return nil
}

// leaderless tells whether one of the streams could not be asked.
func (s *platformStatus) leaderless(names ...string) bool {
	return slices.ContainsFunc(s.Streams, func(one streamStatus) bool { return one.Error != "" && slices.Contains(names, one.Name) })
}

func (s *platformStatus) faulty(what, do string, args ...any) {
	s.Faults = append(s.Faults, fault{what, fmt.Sprintf(do, args...)})
}

// judge finds what is wrong with servers and streams.
func (s *platformStatus) judge() {
	for _, one := range s.Servers {
		if one.Away > 0 {
			s.faulty(fmt.Sprintf("server %s is away, and with it a copy of %s", one.Name, plural(one.Away, "stream")),
				"start it again with its data; until then the loss of one more server can stop all writes")
		}
		if one.Behind > 0 {
			s.faulty(fmt.Sprintf("server %s is not level with %s", one.Name, plural(one.Behind, "stream")),
				"wait: it is brought level by the others; stop no other server before")
		}
	}
	var single []string
	unasked := 0
	for i := range s.Streams {
		one := &s.Streams[i]
		switch {
		case one.Unasked:
			unasked++
		case one.Error != "":
			s.faulty(one.Error, "start the servers that are away; where none is, an election is over within 10 s")
		case one.refuses && one.percent() >= fullPercent:
			s.faulty(fmt.Sprintf("stream %s is %d %% full (%s of %s)", one.Name, one.percent(), sizeText(one.Bytes), sizeText(uint64(one.Limit))),
				"when it is full it refuses what is new: see what fills it, or give it more (nats stream edit %s --max-bytes ...)", one.Name)
		case one.Copies == 1 && len(s.Servers) > 1 && strings.Contains(strings.ToLower(one.Name), "skybus"):
			single = append(single, one.Name)
		}
	}
	if unasked > 0 {
		s.faulty("not asked in time: "+plural(unasked, "stream"), giveTime)
	}
	if len(single) > 0 {
		s.faulty(fmt.Sprintf("one copy only, in a cluster: %s", strings.Join(single, " ")), "nats stream edit NAME --replicas 3 makes three of it")
	}
}

func (s *platformStatus) print(app *App) error {
	if app.Output != formatTable {
		return encode(app.stdout, app.Output, s)
	}
	rows := [][]any{{"connected to", s.Connected + ", version " + s.Version}}
	if s.Cluster != "" {
		rows = append(rows, []any{"cluster", s.Cluster})
	}
	rows = append(rows, []any{"namespace", app.shownNamespace()}, []any{"instances", fmt.Sprintf("%d online, %d unregistered, %d offline", s.Instances.Online, s.Instances.Unregistered, s.Instances.Offline)})
	if err := app.writeTable(nil, rows); err != nil {
		return err
	}
	if err := printTable(app, s.Servers, []string{"server", "leads", "copies", "away", "behind"}, func(r serverStatus) []any {
		return []any{r.Name, r.Leads, r.Copies, r.Away, r.Behind}
	}); err != nil {
		return err
	}
	if err := printTable(app, s.Streams, []string{"stream", "leader", "copies", "messages", "size", "full"}, streamRow); err != nil {
		return err
	}
	if len(s.Faults) == 0 {
		app.note("nothing is wrong")
	}
	return printTable(app, s.Faults, []string{"wrong", "what to do"}, func(f fault) []any { return []any{f.What, f.Do} })
}

// printTable is printList below what was printed before.
func printTable[T any](app *App, items []T, header []string, row func(T) []any) error {
	if len(items) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(app.stdout); err != nil {
		return err
	}
	return printList(app, items, header, row)
}

func streamRow(r streamStatus) []any {
	if r.Error != "" {
		return []any{r.Name, "nobody", nil, nil, nil, nil}
	}
	if r.Unasked {
		return []any{r.Name, "not asked", nil, nil, nil, nil}
	}
	full := any(nil)
	if p := r.percent(); p >= 0 {
		full = fmt.Sprintf("%d %%", p)
	}
	return []any{r.Name, cmp.Or(r.Leader, "-"), r.Copies, r.Messages, sizeText(r.Bytes), full}
}

// sizeText is a number of bytes for people.
func sizeText(n uint64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for value >= unit && i < len("KMGTPE")-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[i])
}
