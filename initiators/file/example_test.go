package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
	"github.com/skybus-io/skybus/micro"
)

// Each line of a file that is put into a directory becomes a call. What the service refuses is put aside with its reason.
func Example() {
	ctx := context.Background()
	conn, stop := exampleServer(ctx)
	defer stop()
	service := exampleService(ctx, conn)
	defer service()

	dir, err := os.MkdirTemp("", "orders")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	orders := "{\"item\":\"lamp\",\"count\":2}\n{\"item\":\"\",\"count\":1}\n{\"item\":\"desk\",\"count\":1}\n"
	if err := os.WriteFile(filepath.Join(dir, "monday.ndjson"), []byte(orders), 0o600); err != nil {
		panic(err)
	}

	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	target, err := initiators.Sources{Client: client}.Target(initiators.Spec{Call: "orders.create"})
	if err != nil {
		panic(err)
	}
	source, err := file.New(conn, target, file.Config{
		Name: "orders", Dir: dir, Format: file.NDJSON,
		Quiet: 50 * time.Millisecond, // how long the file must not have changed
		Once:  true,                  // Run returns when all is sent; without it, it waits for more
	})
	if err != nil {
		panic(err)
	}
	if err := source.Run(ctx); err != nil {
		panic(err)
	}
	stats := source.Stats()
	fmt.Println("sent", stats.Sent, "refused", stats.Refused)
	_, err = os.Stat(filepath.Join(dir, "done", "monday.ndjson"))
	fmt.Println("moved:", err == nil)
	refused, err := filepath.Glob(filepath.Join(dir, "failed", "monday-*.ndjson"))
	if err != nil || len(refused) != 2 { // and the reasons
		panic(fmt.Sprint(refused, err))
	}
	records, err := os.ReadFile(refused[0])
	if err != nil {
		panic(err)
	}
	fmt.Printf("put aside: %s", records)
	// Output:
	// lamp
	// desk
	// sent 2 refused 1
	// moved: true
	// put aside: {"item":"","count":1}
}

type exampleOrder struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
}

// exampleService takes orders.
func exampleService(ctx context.Context, conn *bus.Conn) (stop func()) {
	started := make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "orders", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		panic(err)
	}
	if err := micro.Handle(s, "create", func(_ context.Context, o exampleOrder) (struct{}, error) {
		if o.Item == "" {
			return struct{}{}, bus.Errorf(bus.InvalidArgument, "item is empty")
		}
		fmt.Println(o.Item)
		return struct{}{}, nil
	}); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx) // a call would say that nobody listens
	}()
	<-started
	return func() { cancel(); <-ended }
}

// exampleServer is a NATS server in this process, and a connection to it.
func exampleServer(ctx context.Context) (*bus.Conn, func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	return conn, func() {
		_ = conn.Close()
		_ = server.Close()
	}
}
