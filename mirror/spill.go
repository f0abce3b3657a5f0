package mirror

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	maxInline   = 512 << 10 // bytes of a message; a body that would make it larger is kept as an object
	bodyChunk   = 128 << 10
	bodySpeed   = 4 << 20          // bytes a second at which the servers are given time to take, or give, a body
	goneAfter   = 10 * time.Second // an object that is not there for so long is gone
	bodyTimeout = 10 * time.Second // beside the time for its length
)

// spilled is a body in the object store.
type spilled struct {
	name string
	size int64
}

func (s *spilled) String() string { return s.name + " " + strconv.FormatInt(s.size, 10) }

// parseSpilled reads what String made. What it is not is an object that is not there.
func parseSpilled(text string) *spilled {
	name, size, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 || n > mostBody {
		return &spilled{}
	}
	return &spilled{name, n}
}

// object is the name of a new object of the mirror.
func (s space) object() string { return s.objects() + nuid.Next() }

// objects is what the names of the mirror's objects begin with.
func (s space) objects() string { return s.ns.String() + "." + s.mirror + "/" }

// inline is how large a message may be.
func (m *Mirror) inline() int { return int(min(maxInline, m.conn.NATS().MaxPayload()/2)) }

// spill takes the body out of a request that is too large for a message, and stores it.
func (m *Mirror) spill(ctx context.Context, req *request) (*spilled, error) {
	size := int64(len(req.body))
	ctx, cancel := context.WithTimeout(ctx, m.cfg.StoreTimeout+time.Duration(size/bodySpeed)*time.Second)
	defer cancel()
	s := &spilled{m.space.object(), size}
	for attempt := 1; ; attempt++ {
		meta := jetstream.ObjectMeta{Name: s.name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: uint32(min(bodyChunk, m.inline()))}} //nolint:gosec // not negative
		_, err := m.bodyStore.Put(ctx, meta, bytes.NewReader(req.body))
		if err == nil {
			req.body = nil
			return s, nil
		}
		result := storeResultOf(err)
		if result == storeUnknown {
			result = storeNobody // nothing speaks of the object
		}
		if result != storeNobody || !backoff.Sleep(ctx, backoff.Full(attempt, firstStorePause, lastStorePause)) {
			m.removeLater(ctx, s)
			return nil, storeError(result, false, err)
		}
	}
}

// removeLater removes the body of a write that was not stored. Where that fails, the sender does it after a while.
func (m *Mirror) removeLater(ctx context.Context, s *spilled) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeAttempt)
	defer cancel()
	if err := m.removeBody(ctx, s.name); err != nil {
		m.log.DebugContext(ctx, "body of a write that was not stored not removed, the sender will", "error", err)
	}
}

// removeBody removes an object. That needs no room, as a mark of its deletion would.
func (m *Mirror) removeBody(ctx context.Context, name string) error {
	info, err := m.bodyStore.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mirror: body: %w", err)
	}
	return m.removeObject(ctx, info)
}

func (m *Mirror) removeObject(ctx context.Context, info *jetstream.ObjectInfo) error {
	for _, subject := range []string{subjectChunks + info.NUID, subjectObjects + base64.URLEncoding.EncodeToString([]byte(info.Name))} {
		if err := m.bodyStream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("mirror: body: %w", err)
		}
	}
	return nil
}

var errBodyGone = errors.New("mirror: the body of the write is gone")

// loadBody reads a body, until ctx ends or it is known to be gone.
func (m *Mirror) loadBody(ctx context.Context, s *spilled) ([]byte, error) {
	if !strings.HasPrefix(s.name, m.space.objects()) {
		return nil, errBodyGone // another's
	}
	var missing time.Time // since when
	for attempt := 1; ; attempt++ {
		body, err := m.readBodyOnce(ctx, s)
		switch {
		case err == nil:
			return body, nil
		case !m.isGoneFrom(ctx, s, err):
			missing = time.Time{}
		case missing.IsZero(): // who was asked may not have it yet
			missing = time.Now()
		case time.Since(missing) > goneAfter:
			return nil, errBodyGone
		}
		m.log.DebugContext(ctx, "body of a write not read, trying again", "object", s.name, "error", err)
		if !backoff.Sleep(ctx, backoff.Full(attempt, firstPause, time.Second)) {
			return nil, errEnded
		}
	}
}

// isGoneFrom tells whether an error of reading a body says that it, or a part of it, is not there. One of which only the parts are gone reads as if the servers were slow.
func (m *Mirror) isGoneFrom(ctx context.Context, s *spilled, err error) bool {
	if errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrDigestMismatch) || errors.Is(err, errBodyGone) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	object, err := m.bodyStore.GetInfo(ctx, s.name)
	if err != nil {
		return false
	}
	chunks := subjectChunks + object.NUID
	info, err := m.bodyStream.Info(ctx, jetstream.WithSubjectFilter(chunks))
	return err == nil && info.State.Subjects[chunks] < uint64(object.Chunks)
}

func (m *Mirror) readBodyOnce(ctx context.Context, s *spilled) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, bodyTimeout+time.Duration(s.size/bodySpeed)*time.Second)
	defer cancel()
	object, err := m.bodyStore.Get(ctx, s.name)
	if err != nil {
		return nil, fmt.Errorf("mirror: body: %w", err)
	}
	defer func() { _ = object.Close() }()
	body := make([]byte, s.size)
	if _, err := io.ReadFull(object, body); err != nil {
		return nil, fmt.Errorf("mirror: body: %w", err)
	}
	if n, err := object.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) { // at the end it is compared with its digest
		return nil, fmt.Errorf("%w: its end differs: %w", errBodyGone, errors.Join(err, errBodyDiffers))
	}
	return body, nil
}

// store stores a request.
func (m *Mirror) store(ctx context.Context, req *request, subject, id, to string, ack Ack) (stored, error) {
	var body *spilled
	object := ""
	if len(req.body) > m.inline()-m.cfg.MaxTarget-m.cfg.MaxHeader {
		var err error
		if body, err = m.spill(ctx, req); err != nil {
			return stored{}, err
		}
		object = body.String()
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.StoreTimeout)
	defer cancel()
	pub, again, err := m.publish(ctx, req.message(subject, id, to, ack, object))
	if err != nil {
		if body != nil && bus.AsError(err).Details["stored"] == "no" {
			m.removeLater(ctx, body)
		}
		return stored{}, err
	}
	if body != nil && pub.Duplicate && m.isOther(ctx, pub.Sequence, object) {
		m.removeLater(ctx, body)
	}
	return stored{pub.Sequence, pub.Duplicate && !again}, nil
}

// isOther tells whether a write is stored with another body than the object. Where that is not known it is not.
func (m *Mirror) isOther(ctx context.Context, seq uint64, object string) bool {
	raw, err := m.rawWrite(ctx, seq)
	if err != nil {
		return false
	}
	return raw.header().Get(headerObject) != object
}
