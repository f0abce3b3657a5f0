package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	wantedReplicas = 3
	nominalStore   = 1 << 30
	minStreamBytes = 1 << 20
	enoughStore    = 128 << 20 // for all streams, of a server that does not say how large its store is
	openTimeout    = 30 * time.Second
	openRetry      = 100 * time.Millisecond
	crowdedFor     = 3 * time.Second
	storelessFor   = 3 * time.Second
)

// Error codes of the JetStream API that decide how a stream is created.
const (
	errNoPeers      jetstream.ErrorCode = 10005 // the cluster has too few servers for the replicas, so far
	errNoLeader     jetstream.ErrorCode = 10008 // the cluster has no leader, so far
	errMemoryFull   jetstream.ErrorCode = 10028 // the limits do not fit into the memory that is not reserved yet
	errStorageFull  jetstream.ErrorCode = 10047 // the same of the disk
	errNoStore      jetstream.ErrorCode = 10049 // no place on the disk, as long as one of the same name is being removed from it
	errNameInUse    jetstream.ErrorCode = 10058 // somebody created it meanwhile, differently
	errNotClustered jetstream.ErrorCode = 10074 // replicas need a cluster
)

// storeShare is the part of the JetStream store, in percent, that a stream may fill. Limits are reserved when a stream is
// created, so they add up to 60 at most and leave the rest to the user's own streams.
func storeShare(stream string) int64 {
	switch stream {
	case "KV_skybus_instances", "KV_skybus_config", "KV_skybus_routes", "KV_skybus_answers", "SKYBUS_HTTP":
		return 2
	case "KV_skybus_liveness", "KV_skybus_leases", "KV_skybus_mirrors", "SKYBUS_MIRW":
		return 1
	case "SKYBUS_MIRL":
		return 2
	case "SKYBUS_ASYNC", "SKYBUS_DLQ", "OBJ_skybus_mirror_bodies":
		return 8
	case "SKYBUS_MIR":
		return 16
	}
	return 1
}

// keepsNewest tells whether a stream makes room for what is new by removing what is oldest. The others refuse it.
func keepsNewest(stream string) bool { return stream == "SKYBUS_MIRL" }

// OpenStream binds to the stream named in cfg and creates it when it does not exist. An existing stream is taken as it
// is. A new one gets 3 replicas where the servers form a cluster, else 1; its share of the store as MaxBytes, or less where
// that does not fit; and refuses new messages when full, but for SKYBUS_MIRL, which keeps the newest. What cfg sets stays as it is. While the cluster has no leader or
// too few servers, OpenStream tries again until ctx ends, at most 30 s. A user who may not look at the stream, or may not
// create the one that is missing, has permission_denied at once: the roles of package auth bind, they never create.
func (c *Conn) OpenStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	o := opening{conn: c, cfg: cfg, scaled: cfg.MaxBytes == 0}
	if o.cfg.Replicas == 0 {
		o.cfg.Replicas = wantedReplicas
	}
	var last error
	for {
		stream, err := o.try(ctx)
		if err == nil {
			return stream, nil
		}
		if !openLater(err) && !o.storeless(err) {
			return nil, fmt.Errorf("bus: open stream %q: %w", cfg.Name, err)
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(last, cause) {
				last = fmt.Errorf("%w: %w", cause, last)
			}
			return nil, fmt.Errorf("bus: open stream %q: JetStream is not ready%s: %w", cfg.Name, notReady(last), last)
		case <-time.After(openRetry):
		}
	}
}

// opening is a stream on its way to be opened: its configuration is adapted to what the servers refuse.
type opening struct {
	conn    *Conn
	cfg     jetstream.StreamConfig
	scaled  bool      // MaxBytes is ours to choose
	assumed bool      // it is a share of a size that nobody has said
	halved  bool      // it did not fit
	crowded time.Time // since when no server has room for it
	noStore time.Time // since when its store cannot be made
}

// try makes one attempt.
func (o *opening) try(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stream, err := o.bind(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	if o.scaled && o.cfg.MaxBytes == 0 {
		size, known := o.conn.storeSize(ctx)
		o.cfg.MaxBytes = size / 100 * storeShare(o.cfg.Name)
		if o.assumed = !known; o.assumed {
			o.cfg.MaxBytes = max(o.cfg.MaxBytes, minStreamBytes)
		}
		if !keepsNewest(o.cfg.Name) {
			o.cfg.Discard = jetstream.DiscardNew
		}
	}
	for {
		stream, err = o.create(ctx)
		switch {
		case apiCode(err) == errNameInUse:
			if stream, err = o.bind(ctx); errors.Is(err, jetstream.ErrStreamNotFound) {
				err = fmt.Errorf("%w: %w", errBeingMade, err)
			}
			return stream, err
		case apiCode(err) == errNotClustered && o.cfg.Replicas > 1:
			o.cfg.Replicas = 1
		case err == nil && o.halved && o.assumed:
			return o.share(ctx, stream), nil
		case !o.tooLarge(err):
			return stream, err
		case !o.scaled || o.cfg.MaxBytes/2 < minStreamBytes:
			return nil, o.noRoom(err)
		default:
			o.cfg.MaxBytes /= 2
			o.halved = true
		}
	}
}

// share gives a stream that took about all there is, since the size of the store was only assumed, its share of that. So all that are still to be made have theirs.
func (o *opening) share(ctx context.Context, whole jetstream.Stream) jetstream.Stream {
	most := o.cfg.MaxBytes
	o.conn.most.Store(most)
	o.cfg.MaxBytes = max(most/100*storeShare(o.cfg.Name), minStreamBytes)
	stream, err := o.conn.js.UpdateStream(ctx, o.cfg)
	if err != nil {
		o.conn.log.WarnContext(ctx, "a new stream keeps more of the store than its share", "stream", o.cfg.Name, "bytes", most, "error", err)
		return whole
	}
	return stream
}

// noRoom tells what to do where not even the smallest limit fits, or the one that is given.
func (o *opening) noRoom(err error) error {
	wants := int64(minStreamBytes)
	if !o.scaled {
		wants = max(o.cfg.MaxBytes, 1<<10)
	}
	return Errorf(ResourceExhausted, "the JetStream store has less than %d KiB left that no stream has reserved, and %s has to reserve some: "+
		"give the server a larger store (`skybus server --max-store`; %d MiB are enough for all streams of skybus), say how large it is before they are made (--store-size), "+
		"so that each has its share, or remove streams: %w", wants>>10, o.cfg.Name, enoughStore>>20, err)
}

func (o *opening) bind(ctx context.Context) (stream jetstream.Stream, err error) {
	err = o.conn.Permitted(ctx, api("STREAM.INFO."+o.cfg.Name), func(ctx context.Context) (err error) {
		stream, err = o.conn.js.Stream(ctx, o.cfg.Name)
		return err
	})
	return stream, err
}

func (o *opening) create(ctx context.Context) (stream jetstream.Stream, err error) {
	err = o.conn.Permitted(ctx, api("STREAM.CREATE."+o.cfg.Name), func(ctx context.Context) (err error) {
		stream, err = o.conn.js.CreateStream(ctx, o.cfg)
		return err
	})
	if CodeOf(err) == PermissionDenied {
		err = Wrap(PermissionDenied, fmt.Sprintf("it does not exist, and %s may not create it: `skybus up`, or another program of a user who may, does that once",
			o.conn.user()), err).With("subject", "$JS.API.STREAM.CREATE."+o.cfg.Name)
	}
	return stream, err
}

// api is a request to the JetStream API.
func api(request string) Access { return Access{Publish: []string{"$JS.API." + request}} }

// tooLarge tells whether err says that MaxBytes does not fit. A cluster says so by the code for too few servers, and only
// its text tells the two apart; as it may say it while its servers start, it has to say it for a while.
func (o *opening) tooLarge(err error) bool {
	e, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch {
	case e.ErrorCode == errStorageFull || e.ErrorCode == errMemoryFull:
		return true
	case e.ErrorCode != errNoPeers || !strings.Contains(e.Description, "insufficient storage"):
		o.crowded = time.Time{}
	case o.crowded.IsZero():
		o.crowded = time.Now()
	default:
		return time.Since(o.crowded) > crowdedFor
	}
	return false
}

// storeless tells whether err says that the store of the stream could not be made, and has not said so for long: the server may
// still be removing the one of a stream that was deleted.
func (o *opening) storeless(err error) bool {
	if apiCode(err) != errNoStore {
		o.noStore = time.Time{}
		return false
	}
	if o.noStore.IsZero() {
		o.noStore = time.Now()
	}
	return time.Since(o.noStore) < storelessFor
}

// errBeingMade says that somebody else creates the stream just now: a cluster refuses its name already, and does not show it yet.
var errBeingMade = errors.New("the stream is being created")

// openLater tells whether err says that the servers are not ready yet.
func openLater(err error) bool {
	switch apiCode(err) {
	case errNoPeers, errNoLeader:
		return true
	}
	return errors.Is(err, errBeingMade) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrReconnectBufExceeded)
}

// notReady is why JetStream is likely not to be ready, as an addition in parentheses. Where nobody answers there is none.
func notReady(err error) string {
	if errors.Is(err, nats.ErrNoResponders) {
		return ""
	}
	return " (its servers may lack a leader, or a quorum)"
}

func apiCode(err error) jetstream.ErrorCode {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode
	}
	return 0
}

// StoreLimit is the size of the JetStream store of each server, as [Config] says. 0 means that it does not.
func (c *Conn) StoreLimit() int64 { return c.store }

// storeSize is what limits scale to, and whether somebody has said it.
func (c *Conn) storeSize(ctx context.Context) (size int64, known bool) {
	if c.store > 0 {
		return c.store, true
	}
	if most := c.most.Load(); most > 0 {
		return most, false
	}
	var info *jetstream.AccountInfo
	err := c.Permitted(ctx, api("INFO"), func(ctx context.Context) (err error) {
		info, err = c.js.AccountInfo(ctx)
		return err
	})
	if err != nil || info.Limits.MaxStore <= 0 {
		return nominalStore, false
	}
	return info.Limits.MaxStore, true
}
