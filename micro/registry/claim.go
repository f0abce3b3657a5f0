package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const (
	pingTimeout = time.Second
	pingAgain   = 50 * time.Millisecond // interest may be on its way to other servers
)

// pingTimeouts of a claim are short at first: the server may be about to notice that a killed process is gone.
func pingTimeouts() []time.Duration {
	return []time.Duration{pingTimeout / 10, pingTimeout / 4, pingTimeout}
}

// Claim takes the id for this announcer, before anything is subscribed in its name. Where another process has it, the error
// is already_exists and names its host, pid and start. An instance has its id as long as it answers
// ctl.<service>.<instance>.ping; one that is silent though subscribed, as a frozen process is, has it until its liveness runs
// out, and the error's detail "free_at" says when that is. One that is gone (killed, say) has nothing any more: its id is
// taken over at once. Of several who claim the id of nobody at the same time exactly one gets it.
//
// From Claim to [Announcer.Run] the announcer answers the ping itself, and the instance is listed as unregistered. An id
// that is not wanted after all is given back by a Run whose ctx has ended.
//
// That another process answers is told also while JetStream is away; all else waits for JetStream until ctx ends. Where the
// user of the connection may not publish to the control subject, the error is permission_denied. A second Claim of what is
// claimed does nothing. Claim and Run must not be called at the same time.
func (a *Announcer) Claim(ctx context.Context) error {
	if err := a.writing.acquire(ctx); err != nil {
		return fmt.Errorf("registry: claim %s: %w", a.key, err)
	}
	claimed, err := a.claim(ctx)
	a.writing.release()
	if err == nil {
		return nil
	}
	a.stopAnswering()
	if claimed {
		err = errors.Join(err, a.withdraw(ctx))
	}
	if bus.CodeOf(err) == bus.AlreadyExists && !errors.Is(err, kv.ErrExists) {
		return err
	}
	return fmt.Errorf("registry: claim %s: %w", a.key, err)
}

// claim also tells whether the record may have been written when there is an error.
func (a *Announcer) claim(ctx context.Context) (written bool, err error) {
	a.mu.Lock()
	owned := a.owned
	a.mu.Unlock()
	if owned {
		return false, nil
	}
	first, err := a.askFirst(ctx)
	if err != nil {
		return false, err
	}
	if err := a.openTables(ctx); err != nil {
		return false, err
	}
	for {
		revision, err := a.vacancy(ctx, first)
		if err != nil {
			return written, err
		}
		err = a.reserve(ctx, revision)
		if err == nil {
			break
		}
		written = true
		if !errors.Is(err, kv.ErrConflict) && !errors.Is(err, kv.ErrExists) {
			return true, err
		}
		a.stopAnswering() // or this announcer would hear itself
		first = nobody    // is what it was
	}
	a.alive, err = a.liveness.Put(ctx, a.key, Load{}, kv.TTL(a.cfg.TTL))
	return true, err
}

// askFirst refuses what a living instance has, for which JetStream is not needed.
func (a *Announcer) askFirst(ctx context.Context) (answer, error) {
	got, err := a.ping(ctx)
	if err != nil || got != answered {
		return got, err
	}
	var holder Record
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if a.openTables(ctx) == nil {
		e, _ := a.instances.Get(ctx, a.key) // it answers; the record only says more
		holder = e.Value
	}
	return got, a.held(holder, time.Time{})
}

// vacancy is the revision that a claim has to replace, 0 where there is no record. It is an error that somebody has the id.
// Who was silent just now is not asked again.
func (a *Announcer) vacancy(ctx context.Context, first answer) (revision uint64, err error) {
	record, err := a.instances.Get(ctx, a.key)
	absent := errors.Is(err, kv.ErrNotFound)
	if err != nil && !absent && record.Revision == 0 {
		return 0, err
	}
	if !absent && record.Value.Session == a.session { // an attempt whose answer was lost
		return record.Revision, nil
	}
	alive, err := a.liveness.Get(ctx, a.key)
	dead := errors.Is(err, kv.ErrNotFound)
	if err != nil && !dead && alive.Revision == 0 {
		return 0, err
	}
	if absent && dead {
		return 0, nil
	}
	if first == silent && !dead {
		return 0, a.held(record.Value, alive.Created.Add(a.cfg.TTL))
	}
	answer, err := a.ping(ctx)
	if err == nil && answer == nobody && !dead {
		if !backoff.Sleep(ctx, pingAgain) {
			return 0, context.Cause(ctx)
		}
		answer, err = a.ping(ctx)
	}
	switch {
	case err != nil:
		return 0, err
	case answer == answered:
		return 0, a.held(record.Value, time.Time{})
	case answer == silent && !dead:
		return 0, a.held(record.Value, alive.Created.Add(a.cfg.TTL))
	}
	return record.Revision, nil
}

// reserve writes the record so that the instance is not called yet. The record is what decides between two claims, and who
// has written it answers pings already.
func (a *Announcer) reserve(ctx context.Context, revision uint64) error {
	if err := a.answerPings(); err != nil {
		return err
	}
	if err := flush(ctx, a.conn); err != nil {
		return err
	}
	record := a.Record()
	record.Registered = false
	written, err := a.write(ctx, record, revision)
	if err == nil {
		a.own(written)
	}
	return err
}

// flush returns when the server has what was sent to it.
func flush(ctx context.Context, conn *bus.Conn) error {
	for {
		if err := conn.WaitConnected(ctx); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, pingTimeout)
		err := conn.NATS().FlushWithContext(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// held is the error of a claim. free is when the id of a silent holder is free, if it stays silent.
func (a *Announcer) held(by Record, free time.Time) error {
	what, todo := whose(by), "stop that one, or give this one an id of its own"
	if !free.IsZero() {
		what += ", which is silent"
		todo = fmt.Sprintf("kill it, or wait: its last sign of life counts until %s", free.UTC().Format(time.RFC3339))
	}
	a.mu.Lock()
	id, service := a.record.Instance, a.record.Service
	a.mu.Unlock()
	details := map[string]string{}
	if by.Host != "" {
		details["host"] = by.Host
	}
	if by.PID != 0 {
		details["pid"] = strconv.Itoa(by.PID)
	}
	if !by.Started.IsZero() {
		details["started"] = by.Started.UTC().Format(time.RFC3339)
	}
	if !free.IsZero() {
		details["free_at"] = free.UTC().Format(time.RFC3339)
	}
	err := bus.Errorf(bus.AlreadyExists, "registry: instance %q of service %q is %s: %s", id, service, what, todo)
	err.Details = details
	return err
}

// whose says who has an instance, for a person who has to decide what to do.
func whose(r Record) string {
	who := "held by another process"
	if r.PID != 0 {
		who = fmt.Sprintf("held by process %d", r.PID)
	}
	if r.Host != "" {
		who += fmt.Sprintf(" on host %q", r.Host)
	}
	if !r.Started.IsZero() {
		who += " since " + r.Started.UTC().Format(time.RFC3339)
	}
	return who
}

// answer is what comes of a ping.
type answer int

const (
	answered answer = iota
	nobody          // is subscribed
	silent          // somebody is
)

func (a *Announcer) ping(ctx context.Context) (answer, error) {
	record := a.Record()
	timeouts := pingTimeouts()
	for {
		got, err := ping(ctx, a.conn, record.Service, record.Instance, timeouts[0])
		switch {
		case errors.Is(err, errCutOff):
			timeouts = pingTimeouts()
		case err == nil && got == silent && len(timeouts) > 1:
			timeouts = timeouts[1:]
		default:
			return got, err
		}
	}
}

// errCutOff says that the connection was lost while an answer was waited for.
var errCutOff = errors.New("connection was lost")

// ping asks an instance whether it is there. Any answer counts, an error too.
func ping(ctx context.Context, conn *bus.Conn, service, instance string, timeout time.Duration) (answer, error) {
	if err := conn.WaitConnected(ctx); err != nil {
		return silent, err
	}
	before := conn.NATS().Stats().Reconnects
	try, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reply, err := conn.Request(try, &nats.Msg{Subject: conn.Namespace().ControlSubject(service, instance, "ping")})
	switch {
	case err == nil || reply != nil:
		return answered, nil
	case errors.Is(err, bus.ErrNoResponders):
		return nobody, nil
	case try.Err() == nil || ctx.Err() != nil:
		return silent, err
	case !conn.NATS().IsConnected() || conn.NATS().Stats().Reconnects != before:
		return silent, errCutOff
	}
	return silent, nil
}

// answerPings makes the announcer answer for the instance.
func (a *Announcer) answerPings() error {
	if a.pong != nil {
		return nil
	}
	record := a.Record()
	address := bus.Address{Namespace: a.conn.Namespace(), Service: record.Service, Instance: record.Instance}
	answer, err := json.Marshal(struct {
		Address string    `json:"address"`
		Started time.Time `json:"started"`
	}{address.String(), record.Started})
	if err != nil {
		return fmt.Errorf("registry: answer to ping: %w", err)
	}
	subject := a.conn.Namespace().ControlSubject(record.Service, record.Instance, "ping")
	a.pong, err = a.conn.NATS().Subscribe(subject, func(m *nats.Msg) {
		if a.conn.CheckRequest(m) == "" {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{bus.HeaderContentType: {bus.JSON{}.ContentType()}}, Data: answer}) // who asks asks again
		}
	})
	if err != nil {
		return fmt.Errorf("registry: subscribe %s: %w", subject, err)
	}
	return nil
}

func (a *Announcer) stopAnswering() {
	if a.pong != nil {
		_ = a.pong.Unsubscribe() // fails only when the connection is closed
		a.pong = nil
	}
}
