package embed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrAddrInUse is in the error of [Start] when another program listens on an
// address that the server was told to use.
var ErrAddrInUse = errors.New("address is in use")

// prepareAddrs looks whether the server will be able to listen: it would tell late
// and only in its log. And it gives a member without routes one to itself, as the
// server wants at least one to form a cluster.
func prepareAddrs(ctx context.Context, o *server.Options) error {
	if err := probe(ctx, o); err != nil {
		return err
	}
	if o.Cluster.Name == "" || len(o.Routes) > 0 {
		return nil
	}
	if o.Cluster.Port < 0 {
		port, err := freePort(ctx, o.Cluster.Host)
		if err != nil {
			return err
		}
		o.Cluster.Port = port
	}
	host := o.Cluster.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = defaultHost
	}
	o.Routes = []*url.URL{{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(o.Cluster.Port))}}
	return nil
}

// probe returns why the server cannot listen where it is told to, or nil.
func probe(ctx context.Context, o *server.Options) error {
	if err := probeListen(ctx, o.Host, o.Port); err != nil {
		return err
	}
	if o.Cluster.Name == "" {
		return nil
	}
	return probeListen(ctx, o.Cluster.Host, o.Cluster.Port)
}

func probeListen(ctx context.Context, host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(max(port, 0)))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if isAddrInUse(err) {
		return fmt.Errorf("listen on %s: %w: stop the program that listens there, or choose another port (0 picks a free one): %w",
			addr, ErrAddrInUse, err)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

func freePort(ctx context.Context, host string) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func isAddrInUse(err error) bool {
	const wsaAddrInUse = syscall.Errno(10048) // what windows returns, no such number elsewhere
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaAddrInUse)
}
