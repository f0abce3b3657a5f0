package micro_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// callers call "slow.work" in closed loops until they are stopped.
type callers struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	ok    atomic.Int64
	again atomic.Int64 // answered at a later attempt

	mu     sync.Mutex
	failed []failure
}

type failure struct {
	begun time.Time
	err   error
}

func startCallers(t *testing.T, c *micro.Client, n int, timeout time.Duration) *callers {
	t.Helper()
	cs := &callers{stop: make(chan struct{})}
	ctx := context.WithoutCancel(t.Context())
	for range n {
		cs.wg.Go(func() {
			for {
				select {
				case <-cs.stop:
					return
				default:
					cs.call(ctx, c, timeout)
				}
			}
		})
	}
	t.Cleanup(func() { cs.end() })
	return cs
}

func (cs *callers) call(ctx context.Context, c *micro.Client, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begun := time.Now()
	reply, err := c.Do(ctx, micro.Request{Service: "slow", Endpoint: "work", Body: []byte(`{}`)})
	if err != nil {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		cs.failed = append(cs.failed, failure{begun, err})
		return
	}
	cs.ok.Add(1)
	if reply.Attempts > 1 {
		cs.again.Add(1)
	}
}

// end stops the callers and returns what failed.
func (cs *callers) end() []failure {
	cs.mu.Lock()
	select {
	case <-cs.stop:
	default:
		close(cs.stop)
	}
	cs.mu.Unlock()
	cs.wg.Wait()
	return cs.failed
}

// worker adds an endpoint that takes 20 ms.
func worker(s *micro.Service) error {
	return micro.Handle(s, "work", func(ctx context.Context, _ hello) (greeting, error) {
		select {
		case <-time.After(20 * time.Millisecond):
			return greeting{}, nil
		case <-ctx.Done():
			return greeting{}, ctx.Err()
		}
	})
}

// Three instances are replaced one by one, three times over, each with a connection of its own that is closed as soon as
// Run has returned. No request fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	type member struct {
		*instance

		conn *bus.Conn
	}
	begin := func() member {
		conn := connect(t, s)
		return member{serve(t, conn, micro.Config{Name: "slow"}, worker), conn}
	}
	members := []member{begin(), begin(), begin()}
	load := startCallers(t, c, 8, patience)
	const rounds = 3
	start := time.Now()
	for range rounds {
		for i, m := range members {
			if err := m.stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			if err := m.conn.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			before := load.ok.Load()
			members[i] = begin()
			bustest.Eventually(t, "calls to go on", func() bool { return load.ok.Load() > before+20 })
		}
	}
	failed := load.end()
	t.Logf("%d restarts in %v: %d calls, %d of them tried again", rounds*len(members), time.Since(start), load.ok.Load(), load.again.Load())
	for _, f := range failed {
		t.Errorf("a call failed: %v", f.err)
	}
}

// The server goes and comes back while calls run.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	for _, store := range []struct {
		name string
		opts []bustest.Option
	}{
		{"file", nil},
		{"memory", []bustest.Option{bustest.Memory()}},
	} {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			testServerRestart(t, bustest.Server(t, store.opts...))
		})
	}
}

func testServerRestart(t *testing.T, s *bustest.Node) {
	t.Helper()
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	serve(t, connect(t, s), micro.Config{Name: "slow", Instance: "i1"}, worker)
	js, err := jetstream.New(s.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	sees(t, c, "slow", 1)
	load := startCallers(t, c, 4, 500*time.Millisecond)
	bustest.Eventually(t, "calls", func() bool { return load.ok.Load() > 10 })
	for range 2 {
		var late []string
		for try := 0; try == 0 || try < 3 && len(late) > 0; try++ { // the machine may be busy, but not each time
			late = restartUnder(t, s, c, load, js)
		}
		for _, what := range late {
			t.Error(what)
		}
	}
}

// restartUnder restarts the server under load and tells what did not come back in time.
func restartUnder(t *testing.T, s *bustest.Node, c *micro.Client, load *callers, js jetstream.JetStream) (late []string) {
	t.Helper()
	const key = "default.dev.slow.i1"
	s.Stop()
	<-time.After(300 * time.Millisecond)
	before := load.ok.Load()
	s.Start(t)
	back := time.Now()
	bustest.Eventually(t, "calls to succeed", func() bool { return load.ok.Load() > before })
	first := time.Since(back)
	bustest.Eventually(t, "the record and the liveness", func() bool {
		return stored(t, js, registry.InstancesBucket, key) && stored(t, js, registry.LivenessBucket, key)
	})
	record := time.Since(back)
	sees(t, c, "slow", 1)
	t.Logf("calls succeed %v after the server is back, the instance is stored after %v and seen after %v", first, record, time.Since(back))
	if first > time.Second {
		late = append(late, fmt.Sprintf("calls succeed %v after the server is back, want 1s", first))
	}
	if seen := time.Since(back); seen > 2*time.Second {
		late = append(late, fmt.Sprintf("the instance is in the registry %v after the server is back, want about 1s", seen))
	}
	settled := time.Now()
	before = load.ok.Load()
	bustest.Eventually(t, "more calls", func() bool { return load.ok.Load() > before+20 })
	for _, f := range load.since(settled) {
		late = append(late, fmt.Sprintf("a call failed when all was back: %v", f.err))
	}
	return late
}

// since is the failures of calls begun after a moment.
func (cs *callers) since(moment time.Time) (failed []failure) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, f := range cs.failed {
		if f.begun.After(moment) {
			failed = append(failed, f)
		}
	}
	return failed
}

// stored tells whether the bucket on the server has the key.
func stored(t *testing.T, js jetstream.JetStream, bucket, key string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return false
	}
	_, err = kv.Get(ctx, key)
	return err == nil
}
