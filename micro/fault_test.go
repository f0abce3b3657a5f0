package micro_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// line is the way of a connection to its server, which can be cut and frozen.
type line struct {
	mu    sync.Mutex
	conns []net.Conn
	gate  chan struct{} // closed when it thaws; nil while nothing is frozen
	down  bool
}

var _ nats.CustomDialer = (*line)(nil)

// Dial is nats.CustomDialer.
func (l *line) Dial(network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.New("the line is cut")
	}
	conn, err := new(net.Dialer).DialContext(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	l.conns = append(l.conns, conn)
	return &lineConn{conn, l}, nil
}

// cut breaks the line for good, as a process that is killed does.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, conn := range l.conns {
		_ = conn.Close() // may be closed already
	}
}

// freeze holds everything back, as a process that is stopped does, until the returned function is called.
func (l *line) freeze() (thaw func()) {
	gate := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = gate
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gate = nil
		close(gate)
	})
}

func (l *line) wait() {
	l.mu.Lock()
	gate := l.gate
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

type lineConn struct {
	net.Conn

	line *line
}

func (c *lineConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.line.wait()
	return n, err
}

func (c *lineConn) Write(p []byte) (int, error) {
	c.line.wait()
	return c.Conn.Write(p)
}

func over(s *bustest.Node, l *line) func(*bus.Config) {
	return func(cfg *bus.Config) {
		cfg.InProcess, cfg.Server = nil, s.URL()
		cfg.Options = []nats.Option{nats.SetCustomDialer(l)}
	}
}

// quick are the shortest signs of life.
const (
	quickHeartbeat = 300 * time.Millisecond
	quickTTL       = time.Second
)

// answerer adds an endpoint that tells which instance answers.
func answerer(s *micro.Service) error {
	return micro.Handle(s, "are", func(ctx context.Context, _ hello) (greeting, error) {
		return greeting{micro.Info(ctx).Instance}, nil
	})
}

// tally counts calls of "who.are" by who answered, and stops at the third that fails.
func tally(t *testing.T, c *micro.Client, calls int, timeout time.Duration) (by map[string]int, failed []error) {
	t.Helper()
	by = map[string]int{}
	for range calls {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		got, err := micro.Call[greeting](ctx, c, "who.are", hello{})
		cancel()
		if err != nil {
			if failed = append(failed, err); len(failed) == 3 {
				break
			}
			continue
		}
		by[got.Text]++
	}
	return by, failed
}

func TestCutInstance(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	var wire line
	cfg := micro.Config{Name: "who", Heartbeat: quickHeartbeat, TTL: quickTTL, Drain: time.Millisecond}
	cfg.Instance = "cut"
	serve(t, connect(t, s, over(s, &wire)), cfg, answerer)
	cfg.Instance = "stays"
	serve(t, connect(t, s), cfg, answerer)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "who", 2)
	if by, failed := tally(t, c, 100, patience); len(failed) > 0 || by["cut"] == 0 || by["stays"] == 0 {
		t.Fatalf("answers %v, errors %v", by, failed)
	}
	wire.cut()
	start := time.Now()
	// Until the server has noticed, it gives requests to a connection that is gone.
	const notice = 200 * time.Millisecond
	lost, last := 0, time.Duration(0)
	for n := 0; n < 300 || time.Since(start) < 2*notice; n++ {
		begun := time.Since(start)
		by, failed := tally(t, c, 1, time.Second)
		if len(failed) > 0 {
			lost, last = lost+1, begun
		}
		if begun > notice && by["stays"] != 1 {
			t.Errorf("a call %v after the cut: %v %v", begun, by, failed)
		}
	}
	t.Logf("%d calls lost, the last begun %v after the cut", lost, last)
	sees(t, c, "who", 1)
	t.Logf("offline %v after the cut", time.Since(start))
	if by, failed := tally(t, c, 50, patience); len(failed) > 0 || by["stays"] != 50 {
		t.Errorf("answers %v, errors %v", by, failed)
	}
}

// An instance that froze keeps its share of the requests until its liveness is gone, and not a moment longer.
func TestFrozenInstance(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	var wire line
	cfg := micro.Config{Name: "who", Heartbeat: quickHeartbeat, TTL: quickTTL}
	cfg.Instance = "frozen"
	serve(t, connect(t, s, over(s, &wire)), cfg, answerer)
	cfg.Instance = "stays"
	serve(t, connect(t, s), cfg, answerer)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "who", 2)

	thaw := wire.freeze()
	defer thaw() // before the connections close
	start := time.Now()
	lost := 0
	for service := c.Registry().Service("who"); !service.Offline(); service = c.Registry().Service("who") {
		_, failed := tally(t, c, 1, 50*time.Millisecond)
		lost += len(failed)
		if time.Since(start) > patience {
			t.Fatal("the frozen instance is not noticed")
		}
	}
	t.Logf("noticed after %v (TTL %v), %d calls lost until then", time.Since(start), quickTTL, lost)
	if lost == 0 {
		t.Error("no call was lost: the instance was not frozen")
	}
	by, failed := tally(t, c, 200, 2*time.Second)
	if len(failed) > 0 || by["stays"] != 200 {
		t.Errorf("answers %v, errors %v", by, failed)
	}
	thaw()
	sees(t, c, "who", 2)
	bustest.Eventually(t, "the instance to be called again", func() bool {
		by, failed := tally(t, c, 10, patience)
		return len(failed) == 0 && by["frozen"] > 0
	})
}

// A record whose owner only takes requests is no reason to call it.
func TestSilentInstance(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	nc := s.Connect(t)
	var swallowed atomic.Int64
	if _, err := nc.QueueSubscribe("default.dev.svc.who.are", bus.QueueService, func(*nats.Msg) { swallowed.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	serve(t, conn, micro.Config{Name: "who", Instance: "stays"}, answerer)
	c := newClient(t, conn, micro.ClientConfig{})
	put(t, nc, registry.InstancesBucket, "default.dev.who.silent", `{"version":"0.0.0","registered":true,"endpoints":[{"name":"are"}]}`)
	bustest.Eventually(t, "the record", func() bool {
		service := c.Registry().Service("who")
		return service != nil && service.Offline()
	})
	if by, failed := tally(t, c, 100, patience); len(failed) > 0 || by["stays"] != 100 || swallowed.Load() != 0 {
		t.Errorf("answers %v, errors %v, %d swallowed", by, failed, swallowed.Load())
	}
}

func put(t *testing.T, nc *nats.Conn, bucket, key, value string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}
