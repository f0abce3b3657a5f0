package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	attemptTimeout = 2 * time.Second
	retryPause     = 50 * time.Millisecond // to twice that
	reopenTimeout  = 5 * time.Second
	bindTimeout    = 30 * time.Second
)

// bucket is what a Table does without knowing its type.
type bucket struct {
	conn   *bus.Conn
	nc     *nats.Conn
	name   string
	stream string // KV_<name>
	prefix string // $KV.<name>.
	cfg    Config
	log    *slog.Logger

	// shortMarkers says that a deletion may vanish after a while, because it hides no older revisions.
	shortMarkers atomic.Bool
	clock        atomic.Pointer[serverClock] // nil until the leader was asked
}

func (b *bucket) feedSubject(pattern string) string { return "skybus.kv." + b.name + "." + pattern }

// electedSubject is where the servers tell that the bucket has a leader again.
func (b *bucket) electedSubject() string {
	return "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + b.stream
}

// open binds to the stream or creates it; recreated notes in a new one that it replaces one that was lost.
func (b *bucket) open(ctx context.Context, recreated bool) error {
	cfg, err := b.openStream(ctx, recreated)
	if err != nil {
		return err
	}
	if !cfg.AllowDirect {
		return fmt.Errorf("stream %q exists and allows no direct get", b.stream)
	}
	if r := cfg.RePublish; r == nil || r.Destination != b.feedSubject(">") {
		b.log.WarnContext(ctx, "the bucket has no feed: followers learn of changes late", "check", b.cfg.Check)
	}
	b.shortMarkers.Store(cfg.MaxMsgsPerSubject == 1 && cfg.AllowMsgTTL)
	return nil
}

// openStream is the configuration of the stream as it is.
func (b *bucket) openStream(ctx context.Context, recreated bool) (jetstream.StreamConfig, error) {
	if !b.cfg.Bind {
		stream, err := b.conn.OpenStream(ctx, b.streamConfig(recreated))
		if err != nil {
			return jetstream.StreamConfig{}, err
		}
		b.setClock(stream.CachedInfo().TimeStamp)
		return stream.CachedInfo().Config, nil
	}
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	var info streamInfo
	err := b.retry(ctx, func() (err error) {
		info, err = b.info(ctx)
		return err
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("JetStream is not ready%s: %w", notReady(err), err)
	}
	return info.Config, err
}

// notReady is why JetStream is likely not to be ready, as an addition in parentheses. Where nobody answers there is none.
func notReady(err error) string {
	if errors.Is(err, nats.ErrNoResponders) {
		return ""
	}
	return " (the bucket's servers may lack a leader, or a quorum)"
}

// revive creates the bucket again if its leader says twice that it is gone: a server that has just started may say so
// once before it has read its store.
func (b *bucket) revive(ctx context.Context) error {
	for range 2 {
		_, err := b.info(ctx)
		if jscode.Of(err) != jscode.NoStream {
			return err
		}
		if !backoff.Sleep(ctx, pause()) {
			return context.Cause(ctx)
		}
	}
	return b.recreate(ctx)
}

func (b *bucket) recreate(ctx context.Context) error {
	if b.cfg.Bind {
		return ErrNoBucket
	}
	b.log.WarnContext(ctx, "bucket is gone, creating it again")
	ctx, cancel := context.WithTimeout(ctx, reopenTimeout)
	defer cancel()
	return b.open(ctx, true)
}

// retry calls f until its error is not a transient one, or ctx ends. Then the error also says what the last whole attempt
// met: ctx may have ended in the middle of one.
func (b *bucket) retry(ctx context.Context, f func() error) error {
	var last error
	for {
		err := b.conn.WaitConnected(ctx)
		if err == nil {
			err = f()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && last != nil:
			return fmt.Errorf("%w: %w", err, last)
		case !transient(err):
			return err
		}
		last = err
		if errors.Is(err, nats.ErrNoResponders) || jscode.Of(err) == jscode.NoStream {
			rerr := b.revive(ctx)
			if errors.Is(rerr, ErrNoBucket) {
				return rerr
			}
			if rerr != nil && !transient(rerr) && ctx.Err() == nil {
				return fmt.Errorf("%w: %w", errBucketIsGone, rerr)
			}
		}
		if !backoff.Sleep(ctx, pause()) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// attempt calls f with a context that also ends after timeout and when the connection was lost: an answer that was under
// way does not come any more. The error is then errNoAnswer or errLost.
func (b *bucket) attempt(ctx context.Context, timeout time.Duration, f func(ctx context.Context) error) error {
	try, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(errNoAnswer) })
	defer timer.Stop()

	before := b.nc.Stats().Reconnects
	loss := make(chan struct{}, 1)
	stop := b.conn.NotifyLoss(loss)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-loss: // or a slow subscription, which is none of ours
			}
			if b.nc.Stats().Reconnects != before {
				cancel(errLost)
				return
			}
		}
	})

	err := f(try)
	if err != nil && try.Err() != nil && ctx.Err() == nil {
		return context.Cause(try)
	}
	return err
}

func pause() time.Duration { return retryPause + rand.N(retryPause) }

// streamInfo is the leader's word about the bucket.
type streamInfo struct {
	apiStatus
	Created time.Time `json:"created"`
	Now     time.Time `json:"ts"`
	State   struct {
		Messages uint64 `json:"messages"`
		FirstSeq uint64 `json:"first_seq"`
		LastSeq  uint64 `json:"last_seq"`
	} `json:"state"`
	Config  jetstream.StreamConfig `json:"config"`
	Cluster *struct {
		Leader string `json:"leader"`
	} `json:"cluster"`
}

// info asks the bucket's leader, once.
func (b *bucket) info(ctx context.Context) (streamInfo, error) {
	var info streamInfo
	err := b.call(ctx, "$JS.API.STREAM.INFO."+b.stream, nil, &info)
	if err == nil && info.Cluster != nil && info.Cluster.Leader == "" {
		err = errNoLeader // any replica answers then
	}
	if err == nil {
		b.setClock(info.Now)
	}
	return info, err
}

// leaderGet asks the bucket's leader, once. No message is errNone.
func (b *bucket) leaderGet(ctx context.Context, req getRequest) (record, error) {
	var resp struct {
		apiStatus
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	err := b.call(ctx, "$JS.API.STREAM.MSG.GET."+b.stream, req, &resp)
	if jscode.Of(err) == jscode.NoMessage {
		return record{}, fmt.Errorf("%w: %w", errNone, err)
	}
	if err != nil {
		return record{}, err
	}
	m := resp.Message
	r := record{key: strings.TrimPrefix(m.Subject, b.prefix), seq: m.Seq, time: m.Time, data: m.Data}
	if len(m.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return record{}, fmt.Errorf("headers of revision %d: %w", m.Seq, err)
		}
		r.read(h, len(h[headerSequence]) > 0)
	}
	r.deleted = r.deleted || b.stale(r)
	return r, nil
}

// apiStatus is in every answer of the JetStream API.
type apiStatus struct {
	Error *jetstream.APIError `json:"error"`
}

func (s *apiStatus) failure() error {
	if s.Error == nil {
		return nil
	}
	return s.Error
}

// call makes one request to the JetStream API.
func (b *bucket) call(ctx context.Context, subject string, req any, resp interface{ failure() error }) error {
	msg := &nats.Msg{Subject: subject}
	if req != nil {
		body, err := json.Marshal(req)
		if err != nil {
			return err
		}
		msg.Data = body
	}
	reply, err := b.request(ctx, msg)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, resp); err != nil {
		return fmt.Errorf("answer of %s: %w", subject, err)
	}
	return resp.failure()
}

func (b *bucket) request(ctx context.Context, msg *nats.Msg) (reply *nats.Msg, err error) {
	err = b.attempt(ctx, attemptTimeout, func(ctx context.Context) error {
		return b.conn.Permitted(ctx, bus.Access{Publish: []string{msg.Subject}}, func(ctx context.Context) error {
			reply, err = b.nc.RequestMsgWithContext(ctx, msg)
			return err
		})
	})
	return reply, err
}
