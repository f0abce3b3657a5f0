package scheduler

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/jscode"
)

// metadataShards is where a shard's stream says how many there are.
const metadataShards = "skybus_shards"

// noJetStreamAfter is for how long nobody listens before that is no coincidence: a link to the servers may just be coming up.
const noJetStreamAfter = 2 * time.Second

// openShards opens the streams. The first one says how many there are.
func (s *Scheduler) openShards(ctx context.Context) error {
	fresh, err := s.noShards(ctx)
	if err != nil {
		return err
	}
	first, err := s.openStream(ctx, 0, s.newShards())
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(first.CachedInfo().Config.Metadata[metadataShards])
	if err != nil || n < 1 || n > MaxShards {
		return bus.Errorf(bus.FailedPrecondition, "scheduler: stream %q does not say how many shards there are: its metadata %q is %q; is it skybus's?",
			streamName(0), metadataShards, first.CachedInfo().Config.Metadata[metadataShards])
	}
	if asked := s.cfg.Shards; asked != 0 && asked != n {
		return bus.Errorf(bus.FailedPrecondition,
			"scheduler: timers are spread over %d shards here since the first scheduler was started: Config.Shards must not be %d (skybus: leave --shards out)", n, asked)
	}
	for i := range n {
		stream := first
		if i > 0 {
			if stream, err = s.openStream(ctx, i, n); err != nil {
				return err
			}
		}
		s.shards = append(s.shards, s.newShard(i, stream))
	}
	if fresh { // who may make these is who has to make that one: those who deliver may not
		if err := s.openDeadLetters(ctx); err != nil {
			s.log.DebugContext(ctx, "no stream for dead letters yet", "error", err)
		}
	}
	return nil
}

// newShards is how many there will be where there are none.
func (s *Scheduler) newShards() int {
	switch {
	case s.cfg.Shards != 0:
		return s.cfg.Shards
	case s.conn.NATS().ConnectedClusterName() != "":
		return DefaultClusterShards
	default:
		return DefaultShards
	}
}

// noShards tells whether there are none yet. Servers that elect their leader do not answer at all: then it asks again, for a while. That there is no
// JetStream it says at once; and soon where nobody listens, since a server with JetStream does, whether it has a leader or not.
func (s *Scheduler) noShards(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for began := time.Now(); ; {
		err := s.conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.INFO." + streamName(0)}}, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, storeAttempt)
			defer cancel()
			_, err := s.js.Stream(ctx, streamName(0))
			return err
		})
		switch {
		case jscode.Of(err) == jscode.NoJetStream:
			return false, bus.Errorf(bus.FailedPrecondition, "scheduler: timers need JetStream, and this account has none: %w", err)
		case errors.Is(err, nats.ErrNoResponders) && time.Since(began) > noJetStreamAfter:
			return false, bus.Errorf(bus.Unavailable, "scheduler: timers need JetStream, and JetStream is not ready: no server that has it can be reached: %w", err)
		case err == nil || !again(err) || !backoff.Sleep(ctx, storePause):
			return errors.Is(err, jetstream.ErrStreamNotFound), nil
		}
	}
}

func (s *Scheduler) newShard(i int, stream jetstream.Stream) *shard {
	return &shard{
		space: newSpace(i, s.conn.Namespace()), stream: stream,
		clock: &clock{
			stream: stream, grace: s.cfg.Grace, ahead: &s.ahead, measuring: make(chan struct{}, 1),
			warn: func(skew time.Duration) {
				s.log.Warn("the server's clock is far from this machine's; timers go by the server's", "skew", skew.Round(time.Millisecond).String(), "shard", i)
			},
		},
	}
}

// openStream makes the stream without any limit: one that is reached would drop timers, or refuse those that fire.
func (s *Scheduler) openStream(ctx context.Context, i, shards int) (jetstream.Stream, error) {
	prefix := subjectPrefix + strconv.Itoa(i) + "."
	compression := jetstream.NoCompression
	if s.cfg.Compress {
		compression = jetstream.S2Compression
	}
	stream, err := s.conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:               streamName(i),
		Description:        "skybus: timers",
		Subjects:           []string{prefix + ">"},
		Retention:          jetstream.WorkQueuePolicy,
		Discard:            jetstream.DiscardOld,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		Storage:            jetstream.FileStorage,
		Compression:        compression,
		Duplicates:         2 * time.Minute,
		AllowDirect:        true,
		AllowRollup:        true,
		AllowMsgTTL:        true,
		AllowMsgSchedules:  true,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{metadataShards: strconv.Itoa(shards)},
	})
	if err == nil && !stream.CachedInfo().Config.AllowMsgSchedules {
		err = errors.New("scheduler: stream " + streamName(i) + " has no schedules: it is not skybus's, or of a server older than 2.12")
	}
	return stream, err
}
