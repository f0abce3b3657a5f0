package scheduler

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

type answer struct {
	seq uint64
	err error
}

type listener chan answer

func (l listener) answered(seq uint64, err error) { l <- answer{seq, err} }

func (l listener) next(t *testing.T) answer {
	t.Helper()
	select {
	case a := <-l:
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("no answer was told")
		return answer{}
	}
}

func newTestOutbox(t *testing.T, wait time.Duration) (*bus.Conn, *outbox, func(subject, expect string) listener) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, conn)
	if _, err := conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}}); err != nil {
		t.Fatal(err)
	}
	o := newOutbox(conn.NATS(), wait)
	t.Cleanup(o.close)
	return conn, o, func(subject, expect string) listener {
		l := make(listener, 10)
		msg := &nats.Msg{Subject: subject, Header: nats.Header{headerExpectSeq: {expect}}}
		if err := o.send(msg, l); err != nil {
			t.Fatal(err)
		}
		return l
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	conn, o, send := newTestOutbox(t, time.Minute)
	for i := range 100 {
		if a := send("s."+strconv.Itoa(i), "0").next(t); a.seq != uint64(i+1) || a.err != nil {
			t.Fatalf("message %d: %+v", i, a)
		}
	}
	if a := send("s.1", "0").next(t); !errors.Is(storeError(a.err), errConflict) {
		t.Errorf("a message that expects another one: %+v", a)
	}
	if a := send("nowhere", "0").next(t); !errors.Is(a.err, nats.ErrNoResponders) {
		t.Errorf("a message to no stream: %+v", a)
	}
	silent, err := conn.NATS().SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Unsubscribe() }()
	l := send("silent", "0")
	o.close()
	if a := l.next(t); a.err == nil {
		t.Errorf("a message without an answer when it is closed: %+v", a)
	}
	if err := o.send(&nats.Msg{Subject: "s.x"}, l); err == nil {
		t.Error("a closed one took a message")
	}
	if len(o.underway) > 0 || len(l) > 0 {
		t.Errorf("%d are under way, %d answers more", len(o.underway), len(l))
	}
}

func TestOutboxWithoutAnswer(t *testing.T) {
	t.Parallel()
	conn, _, send := newTestOutbox(t, 300*time.Millisecond)
	silent, err := conn.NATS().SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Unsubscribe() }()
	begin := time.Now()
	if a := send("silent", "0").next(t); a.err == nil || time.Since(begin) < 300*time.Millisecond {
		t.Errorf("%+v after %s", a, time.Since(begin))
	}
	if a := send("s.1", "0").next(t); a.err != nil {
		t.Errorf("one after it: %+v", a)
	}
}

// Of a lost connection no answers come, so nobody waits for them.
func TestOutboxReconnects(t *testing.T) {
	t.Parallel()
	conn, _, send := newTestOutbox(t, time.Hour)
	silent, err := conn.NATS().SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Unsubscribe() }()
	l := send("silent", "0")
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	if a := l.next(t); a.err == nil {
		t.Errorf("%+v", a)
	}
}

func FuzzReadAck(f *testing.F) {
	for _, text := range []string{
		`{"stream":"SKYBUS_TMR_0", "seq":123}`, `{"stream":"S","domain":"d","seq":1}`, `{"stream":"S", "seq":1,"duplicate": true}`, `{"stream":"S"}`,
		`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}`, `{"stream":"S", "seq":99999999999999999999}`, `x`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want struct {
			Error *jetstream.APIError `json:"error"`
			Seq   uint64              `json:"seq"`
		}
		seq, err := readAck(&nats.Msg{Data: data})
		if json.Unmarshal(data, &want) == nil && err == nil && seq != want.Seq && want.Seq != 0 {
			t.Errorf("%q: sequence %d, want %d", data, seq, want.Seq)
		}
	})
}
