package micro_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// serveForeign runs a service written with NATS's own library.
func serveForeign(t testing.TB, s *bustest.Node, name string, endpoints map[string]natsmicro.HandlerFunc, group ...string) natsmicro.Service {
	t.Helper()
	svc, err := natsmicro.AddService(s.Connect(t), natsmicro.Config{Name: name, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Stop() }) // the connection may be closed
	theirs := svc.AddGroup(strings.Join(append(group, "theirs"), "."))
	for endpoint, handle := range endpoints {
		if err := theirs.AddEndpoint(endpoint, handle); err != nil {
			t.Fatal(err)
		}
	}
	return svc
}

func TestForeign(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	handled := [2]atomic.Int64{}
	contentType := make(chan string, 100)
	for i := range handled {
		serveForeign(t, s, "sums", map[string]natsmicro.HandlerFunc{
			"echo": func(r natsmicro.Request) {
				handled[i].Add(1)
				contentType <- r.Headers().Get("Content-Type")
				_ = r.Respond(r.Data())
			},
			"fail": func(r natsmicro.Request) { _ = r.Error("404", "no such sum", []byte("why")) },
		})
	}
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}} {
		t.Run(codec.ContentType(), func(t *testing.T) {
			callForeign(t, connect(t, s, func(cfg *bus.Config) { cfg.Codec = codec }), contentType)
		})
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	for range 50 {
		if _, err := micro.Call[hello](t.Context(), c, "sums.echo", hello{}); err != nil {
			t.Fatal(err)
		}
	}
	if handled[0].Load() == 0 || handled[1].Load() == 0 {
		t.Error("the queue group does not balance")
	}
	for len(contentType) > 0 {
		<-contentType
	}
}

// callForeign calls the foreign service in all ways; contentType tells what it was sent.
func callForeign(t *testing.T, conn *bus.Conn, contentType <-chan string) {
	t.Helper()
	c := newClient(t, conn, micro.ClientConfig{Interceptors: []micro.Interceptor{new(notes).watch("")}})
	for i, call := range []func() (hello, error){
		func() (hello, error) {
			return micro.Call[hello](t.Context(), c, "sums.echo", hello{Name: "x", Times: 2})
		},
		func() (hello, error) {
			return micro.Send[hello](t.Context(), c, "sums.echo", hello{Name: "x", Times: 2})
		},
		func() (hello, error) {
			return micro.SendOnce[hello](t.Context(), c, "sums.echo", hello{Name: "x", Times: 2})
		},
		func() (hello, error) {
			return micro.Call[hello](t.Context(), c, "sums.echo", hello{Name: "x", Times: 2}, micro.ToVersion("1.2.3"))
		},
	} {
		if got, err := call(); err != nil || got != (hello{Name: "x", Times: 2}) {
			t.Errorf("call %d: %+v, %v", i, got, err)
		}
		if got := bustest.Receive(t, "the request", contentType); got != "application/json" {
			t.Errorf("call %d is %q", i, got)
		}
	}
	callForeignBytes(t, c, contentType)
}

func callForeignBytes(t *testing.T, c *micro.Client, contentType <-chan string) {
	t.Helper()
	codec := c.Conn().Codec()
	// Bytes of the caller's own have no known encoding; encoded requests are made JSON.
	if got, err := micro.Call[[]byte](t.Context(), c, "sums.echo", []byte("\xc1 raw")); err != nil || string(got) != "\xc1 raw" {
		t.Errorf("%q, %v", got, err)
	}
	if got := bustest.Receive(t, "the request", contentType); got != "" {
		t.Errorf("bytes are %q", got)
	}
	body, _ := codec.Marshal(hello{Name: "x"})
	reply, err := c.Do(t.Context(), micro.Request{Service: "sums", Endpoint: "echo", ContentType: codec.ContentType(), Body: body})
	if err != nil || string(reply.Body) != `{"name":"x"}` || reply.Attempts != 1 {
		t.Errorf("%s, %v", reply.Body, err)
	}
	bustest.Receive(t, "the request", contentType)
	_, err = micro.Call[hello](t.Context(), c, "sums.fail", hello{})
	wantCode(t, err, bus.NotFound, "no such sum")
	_, err = micro.Call[hello](t.Context(), c, "sums.nothing", hello{})
	wantCode(t, err, bus.Unimplemented, "nothing")
	// The first call of a client, once, finds it too.
	c = newClient(t, c.Conn(), micro.ClientConfig{Registry: c.Registry()})
	if _, err := micro.SendOnce[hello](t.Context(), c, "sums.echo", hello{}); err != nil {
		t.Error(err)
	}
	bustest.Receive(t, "the request", contentType)
	for _, opt := range []micro.CallOption{micro.ToVersion("9.9.9"), micro.ToInstance("x"), micro.ToRegion("eu")} {
		_, err = micro.SendOnce[hello](t.Context(), c, "sums.echo", hello{}, opt)
		wantCode(t, err, bus.Unavailable)
	}
	_, err = micro.Call[hello](t.Context(), c, "sums.echo", map[[2]int]string{{1, 2}: "no JSON"})
	wantCode(t, err, bus.InvalidArgument, "does not encode as")
}

// A foreign service that comes while it is called, goes, and comes back, is found.
func TestForeignComesAndGoes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: 4 * time.Second})
	echo := map[string]natsmicro.HandlerFunc{"echo": func(r natsmicro.Request) { _ = r.Respond(r.Data()) }}
	for i := range 2 {
		answered := make(chan error, 1)
		go func() {
			_, err := micro.Call[hello](t.Context(), c, "late.echo", hello{})
			answered <- err
		}()
		<-time.After(100 * time.Millisecond)
		svc := serveForeign(t, s, "late", echo, fmt.Sprint("place", i))
		if err := bustest.Receive(t, "the call", answered); err != nil {
			t.Error(err)
		}
		if err := svc.Stop(); err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, "the service to be gone", func() bool {
			_, err := c.Conn().NATS().Request(fmt.Sprintf("place%d.theirs.echo", i), nil, patience)
			return errors.Is(err, nats.ErrNoResponders)
		})
	}
	_, err := micro.SendOnce[hello](t.Context(), c, "late.echo", hello{})
	wantCode(t, err, bus.Unavailable)
}

// inform answers INFO requests for a service with whatever a stranger says.
func inform(t testing.TB, nc *nats.Conn, name string, infos ...string) *atomic.Int64 {
	t.Helper()
	asked := new(atomic.Int64)
	if _, err := nc.Subscribe("$SRV.INFO."+name, func(m *nats.Msg) {
		asked.Add(1)
		for _, info := range infos {
			_ = m.Respond([]byte(info)) // who waits in vain fails the test
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return asked
}

func infoOf(name, subject, metadata string) string {
	quoted, _ := json.Marshal(subject) // text always encodes
	return fmt.Sprintf(`{"type":"io.nats.micro.v1.info_response","name":%q,"id":"x","version":"1.0.0","metadata":{%s},"endpoints":[{"name":"x","subject":%s}]}`, name, metadata, quoted)
}

// A stranger's INFO makes us publish to nothing that is not a service's plain subject.
func TestForeignDeputy(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	inboxes := func(cfg *bus.Config) { cfg.AcceptInboxes = []string{"answers."} }
	c := newClient(t, connect(t, s, inboxes), micro.ClientConfig{Patience: -1})
	heard := make(chan *nats.Msg, 1000)
	for i, subject := range []string{
		"$JS.API.STREAM.DELETE.SKYBUS_DLQ", "$SYS.REQ.SERVER.PING", "$KV.skybus_routes.default.dev.chain.x", "_INBOX.abc.def", "_R_.x", "answers.x",
		"skybus.dlq.default.dev.x.y", "default.dev.ctl.greeter.all.stop", "default.dev.svc.bank.pay", "other.prod.svc.bank.pay", "other.prod.ctl.bank.x.stop", "a.*", "a.>", ">", "*", "a b", "a\tb", "a\r\nPUB x 0\r\n", "",
		".a", "a.", "a..b", strings.Repeat("x", 257), strings.Repeat("x", 5000), "größe", "a\x00b",
	} {
		name := fmt.Sprint("evil", i)
		if len(subject) > 3 && len(subject) < 300 && !strings.ContainsAny(subject, " \t\r\x00") && !strings.Contains(subject, "..") {
			if _, err := nc.ChanSubscribe(strings.Trim(subject, "."), heard); err != nil {
				t.Fatal(err)
			}
		}
		asked := inform(t, nc, name, infoOf(name, subject, ""))
		_, err := micro.Call[hello](t.Context(), c, name+".x", hello{})
		for tries := int64(1); ; tries++ {
			if asked.Load() != tries {
				t.Errorf("%q: asked %d times, want %d", subject, asked.Load(), tries)
			}
			if bus.CodeOf(err) != bus.Unavailable || tries == 3 {
				break
			}
			// A busy machine answers too late: whoever asks knows nothing yet.
			again := newClient(t, c.Conn(), micro.ClientConfig{Registry: c.Registry(), Patience: -1})
			_, err = micro.Call[hello](t.Context(), again, name+".x", hello{})
		}
		wantCode(t, err, bus.Unimplemented)
	}
	if err := c.Conn().NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for len(heard) > 0 {
		if m := <-heard; m.Header.Get(bus.HeaderRequestID) != "" {
			t.Errorf("a request went to %s", m.Subject)
		}
	}
	if !c.Conn().NATS().IsConnected() || c.Conn().NATS().Stats().Reconnects > 0 {
		t.Error("the connection was lost")
	}
}

// Services of ours in other namespaces are not foreign, nor is what makes no sense; the first that is counts. What is known is
// not asked for again.
func TestForeignInfo(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	if _, err := nc.QueueSubscribe("theirs.x", "q", answerText(`{"name":"theirs"}`)); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: -1})
	asked := inform(t, nc, "mixed", `{`, `[]`, infoOf("other", "theirs.x", ""), infoOf("mixed", "theirs.x", `"skybus.namespace":"other.prod"`), infoOf("mixed", "theirs.x", ""))
	for range 20 {
		if got, err := micro.Call[hello](t.Context(), c, "mixed.x", hello{}); err != nil || got.Name != "theirs" {
			t.Fatal(got, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	asked = inform(t, nc, "ours", infoOf("ours", "theirs.x", `"skybus.namespace":"other.prod"`))
	for range 20 {
		_, err := micro.Call[hello](t.Context(), c, "ours.x", hello{})
		wantCode(t, err, bus.Unavailable)
		if !errors.Is(err, bus.ErrNoResponders) {
			t.Errorf("%v is no ErrNoResponders", err)
		}
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("asked %d times in a moment", n)
	}
}
