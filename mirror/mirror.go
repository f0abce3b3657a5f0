// Package mirror replicates HTTP writes to every backend, in order and without losing one, and sends reads to a backend that has caught up.
//
// A write is stored in JetStream before anything else happens to it. One process of all that run the mirror, the sender, applies what is
// stored to each backend: writes of one lane one after the other, lanes beside each other, backends independent of each other. A backend
// that is down, or new, is brought level from what is stored. See docs/mirror.md for a guide and docs/adr for why it is built so.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Mirror is one mirror as a process sees it: an [http.Handler] for clients, with Run the sender when nobody else is, and the backends.
// Any number of processes may share one. It is safe for concurrent use.
type Mirror struct {
	conn         *bus.Conn
	cfg          Config
	log          *slog.Logger
	js           jetstream.JetStream
	stream       jetstream.Stream // of the writes
	progress     jetstream.Stream // of what the backends have applied
	ledger       jetstream.Stream // of what they answered
	bodyStream   jetstream.Stream // of bodies that are too large for a message
	bodyStore    jetstream.ObjectStore
	backends     *kv.Table[Backend]
	settings     *kv.Table[settings]
	space        space
	key          keyFunc
	ownTransport bool // of the mirror, not of the Config
	sending      http.RoundTripper
	dial         func(ctx context.Context, network, addr string) (net.Conn, error)
	lease        atomic.Pointer[kv.Lease] // of this process's sender, nil before the first

	nodes   atomic.Pointer[[]*node] // in priority order
	known   sync.Map                // name of a backend -> *nodeState, which outlives changes of its record
	edited  broadcast               // backends
	changed broadcast               // the same, or what they have applied
	waiters waiters                 // clients that wait for the answer to a write
	counts  counts
	front

	dealtWith broadcast // parked writes, by this process
	origin    origin
	removal   removal

	writesFull, bodiesFull fullness // of its one sender

	stop      func()
	following sync.WaitGroup
	closeOnce sync.Once
}

// Open binds to the mirror named in cfg, or makes it, and returns when its backends are known and what they have applied. It follows both, and
// checks whether the backends are healthy, until Close; ctx bounds only the opening. Writes are sent to the backends while some process runs [Mirror.Run].
func Open(ctx context.Context, conn *bus.Conn, cfg Config) (*Mirror, error) {
	given := settings{Lanes: cfg.Lanes, Key: cfg.Key}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Mirror{conn: conn, cfg: cfg, log: cfg.Logger.With("mirror", cfg.Name), space: space{ns: conn.Namespace(), mirror: cfg.Name}}
	if _, err := parseKey(cfg.Key); err != nil {
		return nil, err
	}
	if err := m.openTransports(); err != nil {
		return nil, err
	}
	if err := m.openFront(); err != nil {
		return nil, err
	}
	m.nodes.Store(&[]*node{})
	m.removal.done = make(chan struct{})
	if m.js, err = jetstream.New(conn.NATS(), jetstream.WithPublishAsyncMaxPending(maxPending)); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if err := m.openStreams(ctx); err != nil {
		return nil, err
	}
	if m.bodyStore, err = m.js.ObjectStore(ctx, bucketBodies); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if m.backends, err = kv.Open[Backend](ctx, conn, bucketMirrors, kv.Config{Description: "skybus: backends of mirrors", NoExpiry: true, Logger: cfg.Logger}); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if err := m.agree(ctx, given); err != nil {
		return nil, err
	}
	if m.key, err = parseKey(m.cfg.Key); err != nil {
		return nil, err
	}
	sub, err := m.openWaiters()
	if err != nil {
		return nil, err
	}
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = func() { stop(); _ = sub.Unsubscribe() } // that fails only when the connection is closed
	if err := m.follow(ctx, follow); err != nil {
		m.stop()
		m.following.Wait()
		return nil, err
	}
	return m, nil
}

// Close ends what Open began. Requests that wait are answered as if their time was over. Run has to be stopped by its own context. Further calls do nothing.
func (m *Mirror) Close() error {
	m.closeOnce.Do(func() {
		m.stop()
		m.following.Wait()
		m.waiters.close()
		m.closeClients()
	})
	return nil
}

// openStreams opens the streams all mirrors share.
func (m *Mirror) openStreams(ctx context.Context) error {
	for i, stream := range [...]*jetstream.Stream{&m.progress, &m.stream, &m.bodyStream, &m.ledger} {
		cfg := streamConfigs()[i]
		err := m.numbered(ctx, &cfg)
		if err != nil {
			return err
		}
		if *stream, err = m.conn.OpenStream(ctx, cfg); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
	}
	return nil
}

// streamConfigs are the streams, in the order in which they are opened.
func streamConfigs() [4]jetstream.StreamConfig {
	return [...]jetstream.StreamConfig{{
		Name:              streamProgress,
		Description:       "skybus: how far the backends of mirrors have applied their writes",
		Subjects:          []string{subjectProgress + ">"},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1,
		Storage:           jetstream.FileStorage,
		AllowDirect:       true,
		RePublish:         &jetstream.RePublish{Source: subjectProgress + ">", Destination: feedProgress + ">"},
	}, {
		Name:        streamWrites,
		Description: "skybus: writes of mirrors, by lane",
		Subjects:    []string{subjectWrites + ">"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		Duplicates:  duplicateWindow,
		AllowDirect: true,
		DenyDelete:  true,
	}, {
		Name:        streamBodies,
		Description: "skybus: bodies of mirrors' writes that are too large for a message",
		Subjects:    []string{subjectChunks + ">", subjectObjects + ">"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		AllowRollup: true,
		AllowDirect: true,
	}, {
		Name:        streamLedger,
		Description: "skybus: what the backends of mirrors answered to writes",
		Subjects:    []string{subjectLedger + ">"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		AllowDirect: true,
	}}
}

// agree reads what all processes of the mirror must have in common, or says it for those who come. What was not given is as it is there.
func (m *Mirror) agree(ctx context.Context, given settings) error {
	var err error
	if m.settings, err = kv.Open[settings](ctx, m.conn, bucketMirrors, kv.Config{NoExpiry: true, Logger: m.cfg.Logger}); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	key := m.space.key(settingsName)
	mine := settings{Lanes: m.cfg.Lanes, Key: m.cfg.Key}
	for {
		entry, err := m.settings.Get(ctx, key)
		switch {
		case errors.Is(err, kv.ErrNotFound):
			if _, err = m.settings.Create(ctx, key, mine); err != nil && !errors.Is(err, kv.ErrExists) {
				return fmt.Errorf("mirror: %w", err)
			}
		case err != nil:
			return fmt.Errorf("mirror: %w", err)
		case entry.Value.Removing && !m.cfg.Observe:
			return bus.Errorf(bus.FailedPrecondition, "mirror: %q is being removed, or was removed by half: remove it again, then it can be made anew", m.cfg.Name)
		case given.Lanes != 0 && given.Lanes != entry.Value.Lanes, given.Key != "" && given.Key != entry.Value.Key:
			return bus.Errorf(bus.FailedPrecondition, "mirror: %q has %d lanes by key %q, which is for good, and was opened with %d by %q: "+
				"use what it has, or another name", m.cfg.Name, entry.Value.Lanes, entry.Value.Key, mine.Lanes, mine.Key)
		case entry.Value.Lanes < 1 || entry.Value.Lanes > MaxLanes:
			return bus.Errorf(bus.DataLoss, "mirror: %q is stored with %d lanes", m.cfg.Name, entry.Value.Lanes)
		default:
			m.cfg.Lanes, m.cfg.Key = entry.Value.Lanes, entry.Value.Key
			m.origin = origin{entry.Revision, entry.Created}
			if entry.Value.Removing {
				m.noteRemoval(ctx)
			}
			return nil
		}
	}
}

// settings are the same in all processes of a mirror, for its life: with others, writes would change their order. They are written when it is made, and
// once more when it begins to be removed.
type settings struct {
	Lanes    int    `json:"lanes"`
	Key      string `json:"key"`
	Removing bool   `json:"removing,omitempty"`
}

// origin tells a mirror from others of the name that were there before it or came after it: it is when its settings were stored.
type origin struct {
	revision uint64
	at       time.Time // where the bucket was lost and made anew, the same revision may come again
}

// isOf tells whether the settings are those of this mirror, not of another one of the name.
func (o origin) isOf(settings kv.Entry[Backend]) bool {
	return !settings.Deleted && settings.Revision == o.revision && settings.Created.Equal(o.at)
}

func (o origin) String() string {
	return strconv.FormatUint(o.revision, 10) + "." + strconv.FormatInt(o.at.UnixNano(), 10)
}
