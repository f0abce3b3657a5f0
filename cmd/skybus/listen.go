package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

const loopbackHost = "127.0.0.1"

// listen listens for the part of the program called what, at the address its flag gives. Without a host this is for this
// machine only, as the NATS server has it; package net would listen to the whole network.
func listen(ctx context.Context, what, flag, addr string) (net.Listener, error) {
	l, err := listenAt(ctx, addr)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", what, err), "%s %s:0 picks a free port", flag, loopbackHost)
	}
	return l, nil
}

func listenAt(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", withHost(addr))
	if err != nil {
		return nil, err
	}
	return &onceListener{l, sync.OnceValue(l.Close)}, nil
}

// onceListener can be closed twice: by who serves from it, and by who made it in case that nobody did.
type onceListener struct {
	net.Listener

	close func() error
}

func (l *onceListener) Close() error { return l.close() }

func withHost(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(cmp.Or(host, loopbackHost), port)
}

// httpURL is where this machine reaches l, also when l listens to the whole network.
func httpURL(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = loopbackHost
	}
	return "http://" + net.JoinHostPort(host, port)
}

// addrInUse tells whether err says that somebody listens there already.
func addrInUse(err error) bool {
	const wsaAddrInUse = syscall.Errno(10048) // what windows returns, no such number elsewhere
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaAddrInUse)
}
