package main

import (
	"net"
	"slices"
	"testing"
)

func TestListen(t *testing.T) {
	t.Parallel()
	for addr, hosts := range map[string][]string{
		":0":          {"127.0.0.1"}, // this machine only
		"127.0.0.1:0": {"127.0.0.1"},
		"0.0.0.0:0":   {"0.0.0.0", "::"},
	} {
		l, err := listen(t.Context(), "test", "--test", addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		defer func() { _ = l.Close() }()
		host, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		if !slices.Contains(hosts, host) {
			t.Errorf("%s listens at %s, want %s", addr, host, hosts)
		}
		if got, want := httpURL(l), "http://127.0.0.1:"+port; got != want {
			t.Errorf("%s is reached by %s, want %s", addr, got, want)
		}
		if _, err := listen(t.Context(), "test", "--test", l.Addr().String()); !addrInUse(err) {
			t.Errorf("%s a second time: %v, want in use", l.Addr(), err)
		}
	}
	if _, err := listen(t.Context(), "test", "--test", "nonsense"); err == nil || addrInUse(err) {
		t.Errorf("no address: %v", err)
	}
}
