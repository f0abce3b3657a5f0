// Command message keeps messages and finds them again. It shows the handle on a service that calls are made by: a name,
// a version and a region, chosen once.
//
//	go run ./examples/message serve eu
//	go run ./examples/message send eu "see you at eight"
//	go run ./examples/message list eu
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

const (
	service = "msg"
	version = "1.0.0"
	most    = 1000 // messages kept
)

// Message is what is kept. The sender makes the id, so that a message which is sent twice is kept once.
type Message struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// MsgService is a receiver: its methods are the endpoints "keep" and "list".
type MsgService struct {
	mu   sync.Mutex
	kept []Message
}

// Keep keeps a message once.
func (s *MsgService) Keep(_ context.Context, m *Message) (*struct{}, error) {
	if m.ID == "" || m.Text == "" {
		return nil, bus.Errorf(bus.InvalidArgument, "id and text must not be empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.kept, func(k Message) bool { return k.ID == m.ID }) {
		s.kept = append(s.kept[max(0, len(s.kept)-most+1):], *m)
	}
	return &struct{}{}, nil
}

// List is all messages, oldest first.
func (s *MsgService) List(context.Context, *struct{}) (*[]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.kept)
	return &all, nil
}

// GetService is the service of that name as its callers in one region see it; an empty version or region means any.
func GetService(c *micro.Client, name, version, region string) *micro.Remote {
	var opts []micro.CallOption
	if version != "" {
		opts = append(opts, micro.ToVersion(version))
	}
	if region != "" {
		opts = append(opts, micro.ToRegion(region))
	}
	return c.Service(name, opts...)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "message"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "message:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, conn, args[1])
	case len(args) == 3 && args[0] == "send":
		return withService(ctx, conn, args[1], func(msg *micro.Remote) error {
			// Keep may be handled twice, so it may be sent to a second instance while the first is silent.
			m := Message{ID: fmt.Sprint(time.Now().UnixNano()), Text: args[2]}
			return msg.Send(ctx, "keep", m, nil)
		})
	case len(args) == 2 && args[0] == "list":
		return withService(ctx, conn, args[1], func(msg *micro.Remote) error {
			var all []Message
			if err := msg.Call(ctx, "list", struct{}{}, &all); err != nil {
				return err
			}
			for _, m := range all {
				_, _ = fmt.Fprintln(stdout, cmp.Or(m.Text, "(empty)"))
			}
			return nil
		})
	}
	return errors.New("want: serve REGION, send REGION TEXT, or list REGION")
}

func serve(ctx context.Context, conn *bus.Conn, region string) error {
	s, err := micro.NewService(conn, micro.Config{Name: service, Version: version, Region: region})
	if err != nil {
		return err
	}
	if err := s.Register(&MsgService{}, micro.Endpoints(micro.Idempotent())); err != nil {
		return err
	}
	return s.Run(ctx)
}

func withService(ctx context.Context, conn *bus.Conn, region string, use func(*micro.Remote) error) error {
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "message"})
	if err != nil {
		return err
	}
	return errors.Join(use(GetService(client, service, version, region)), client.Close())
}
