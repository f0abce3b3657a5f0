package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/micro"
)

const (
	endpointDown = "down" // streams messages
	endpointBody = "body" // takes a large one
)

const (
	smallMessage = 128
	largeMessage = 64 << 10
	hugeBody     = 64 << 20
)

// transfer is what came by a stream.
type transfer struct {
	Messages int           `json:"messages"`
	Elapsed  time.Duration `json:"elapsed"`
}

// DownRequest asks for messages of Size bytes until the caller ends the stream.
type DownRequest struct {
	Size int `msgpack:"size"`
}

func startStreamService(ctx context.Context, url string) (stop func() error, err error) {
	return serveSkybus(ctx, url, func(svc *micro.Service) error {
		return errors.Join(
			micro.HandleServerStream(svc, endpointDown, func(ctx context.Context, req DownRequest, out *micro.Sender[[]byte]) error {
				message := bytes.Repeat([]byte("x"), req.Size)
				for {
					if err := out.Send(ctx, message); err != nil {
						return err
					}
				}
			}),
			micro.Handle(svc, endpointBody, func(_ context.Context, body []byte) ([]byte, error) { return acknowledge(body), nil }),
		)
	})
}

func acknowledge(body []byte) []byte { return fmt.Append(nil, len(body)) }

func checkAcknowledged(got []byte) error {
	if want := fmt.Append(nil, hugeBody); !bytes.Equal(got, want) {
		return fmt.Errorf("answer %.50q: want %q", got, want)
	}
	return nil
}

// newStreamClient receives streams by act, and sends the large body by call.
func newStreamClient(ctx context.Context, url string) (
	act func(context.Context, order) (answer, error), call caller, stop func() error, err error,
) {
	client, stop, err := newSkybusClient(ctx, url)
	if err != nil {
		return nil, nil, nil, err
	}
	act = func(ctx context.Context, o order) (ans answer, err error) {
		begin := time.Now()
		for message, err := range micro.CallServerStream[[]byte](ctx, client, serviceName+"."+endpointDown, DownRequest{o.Size}) {
			if err != nil {
				return ans, err
			}
			if done, err := ans.Transfer.add(message, o, begin); done || err != nil {
				return ans, err
			}
		}
		return ans, errors.New("the stream ended")
	}
	body := bytes.Repeat([]byte("x"), hugeBody)
	call = func(ctx context.Context, _ int64) error {
		got, err := micro.Call[[]byte](ctx, client, serviceName+"."+endpointBody, body)
		if err != nil {
			return err
		}
		return checkAcknowledged(got)
	}
	return act, call, stop, nil
}

// add counts a message, and tells when it was the last.
func (t *transfer) add(message []byte, o order, begin time.Time) (done bool, err error) {
	if len(message) != o.Size {
		return false, fmt.Errorf("message of %d bytes: want %d", len(message), o.Size)
	}
	t.Messages++
	t.Elapsed = time.Since(begin)
	return t.Elapsed >= o.For, nil
}

// stream compares streams from a service to a caller, and a large body, with grpc-go.
func (b *bench) stream(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	server, url, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	service, _, err := c.start(ctx, roleService, order{Part: nameStream, Side: sideSkybus, URL: url})
	if err != nil {
		return nil, err
	}
	client, _, err := c.start(ctx, roleClient, order{Part: nameStream, Side: sideSkybus, URL: url})
	if err != nil {
		return nil, err
	}
	peer, ans, err := c.start(ctx, roleService, order{Part: nameStream, Side: sideGRPC})
	if err != nil {
		return nil, err
	}
	peerClient, _, err := c.start(ctx, roleClient, order{Part: nameStream, Side: sideGRPC, URL: ans.URL})
	if err != nil {
		return nil, err
	}
	ends := []streamEnds{{sideSkybus, client, []*child{server, service, client}}, {sideGRPC, peerClient, []*child{peer, peerClient}}}
	var sections []section
	for _, m := range []struct {
		name string
		size int
	}{{"stream of 128 B", smallMessage}, {"stream of 64 KiB", largeMessage}} {
		s, err := b.streamOf(ctx, m.name, m.size, ends)
		if err != nil {
			return nil, err
		}
		sections = append(sections, s)
	}
	s, err := b.bodies(ctx, ends)
	s.Notes = []string{"stream: one stream from service to caller, bytes as they are on both sides, default settings but for the size limits of" +
		" grpc-go. skybus goes through the NATS server, grpc-go from process to process. CPU is that of all processes: three and two."}
	return append(sections, s), err
}

// streamEnds is one side of the comparison.
type streamEnds struct {
	side   side
	client *child
	all    []*child
}

func (b *bench) streamOf(ctx context.Context, name string, size int, ends []streamEnds) (section, error) {
	var variants []variant
	for _, e := range ends {
		if _, err := e.client.do(order{Op: opAct, Size: size, For: b.set.warmUp() / 2}); err != nil {
			return section{}, fmt.Errorf("%s: %w", name, err)
		}
		variants = append(variants, variant{string(e.side), func() ([]float64, error) {
			var t transfer
			used, err := using(func() error {
				ans, err := e.client.do(order{Op: opAct, Size: size, For: b.set.window / 4})
				t = ans.Transfer
				return err
			}, e.all...)
			if err != nil {
				return nil, err
			}
			rate := float64(t.Messages) / t.Elapsed.Seconds()
			return []float64{rate * float64(size) / 1e6, rate, micros(used) / float64(t.Messages)}, nil
		}})
	}
	rows, err := b.turns(ctx, name, b.set.windows, variants)
	for _, e := range ends {
		err = errors.Join(err, b.profiled(fmt.Sprintf("%s-%dB-%s", nameStream, size, e.side), e.all, func() error {
			_, err := e.client.do(order{Op: opAct, Size: size, For: b.set.window})
			return err
		}))
	}
	if err != nil {
		return section{}, err
	}
	return section{Name: name, Columns: []string{"MB/s", "messages/s", "CPU us per message"}, Rows: append(rows, ratio(rows[0], rows[1]))}, nil
}

func (b *bench) bodies(ctx context.Context, ends []streamEnds) (section, error) {
	const name = "body of 64 MiB"
	var variants []variant
	for _, e := range ends {
		if _, err := e.client.do(order{Op: opLoad, Callers: 1, For: time.Nanosecond}); err != nil {
			return section{}, fmt.Errorf("%s: %w", name, err)
		}
		variants = append(variants, variant{string(e.side), func() ([]float64, error) {
			var l load
			used, err := using(func() error {
				ans, err := e.client.do(order{Op: opLoad, Callers: 1, For: b.set.window / 4})
				l = ans.Load
				return err
			}, e.all...)
			if err != nil {
				return nil, err
			}
			calls := float64(l.Calls)
			return []float64{hugeBody / 1e6 * calls / l.Elapsed.Seconds(), millis(l.P50), millis(used) / calls}, nil
		}})
	}
	rows, err := b.turns(ctx, name, b.set.windows, variants)
	if err != nil {
		return section{}, err
	}
	return section{Name: name, Columns: []string{"MB/s", "ms per call", "CPU ms per call"}, Rows: append(rows, ratio(rows[0], rows[1]))}, nil
}
