package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// startNginx starts nginx before the first backend, or with its mirror directive before all of them.
func (t *troupe) startNginx(ctx context.Context, program string, mirrors bool) (*nginx, error) {
	dir, err := os.MkdirTemp(t.b.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(t.nginxConfig(dir, addr, mirrors)), 0o600); err != nil {
		return nil, err
	}
	output := &bytes.Buffer{}
	cmd := exec.CommandContext(ctx, program, "-c", file, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	cmd.Stderr = output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.ends = append(t.ends, func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("nginx: %w: %s", err, output)
		}
		return nil
	})
	if err := awaitListener(ctx, addr); err != nil {
		return nil, err
	}
	pids, err := withChildren(cmd.Process.Pid)
	return &nginx{url: "http://" + addr, pids: pids}, err
}

func (t *troupe) nginxConfig(dir, addr string, mirrors bool) string {
	var upstreams, places strings.Builder
	location := "location / { proxy_pass http://b0; }"
	if mirrors {
		location = "location / { mirror /m1; mirror /m2; proxy_pass http://b0; }"
	}
	for i, u := range t.targets {
		fmt.Fprintf(&upstreams, "  upstream b%d { server %s; keepalive 64; }\n", i, strings.TrimPrefix(u, "http://"))
		fmt.Fprintf(&places, "    location = /m%d { internal; proxy_pass http://b%d$request_uri; }\n", i, i)
	}
	return fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  proxy_http_version 1.1; proxy_set_header Connection "";
%[2]s  server { listen %[3]s;
    %[4]s
%[5]s  }
}
`, dir, upstreams.String(), addr, location, places.String())
}

// freeAddress is one that nobody listens at now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", freePort)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func awaitListener(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("nobody listens at %s: %w", addr, err)
		}
	}
}

// withChildren is a process and those it started.
func withChildren(pid int) ([]int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	all := []int{pid}
	for text := range strings.FieldsSeq(string(data)) {
		child, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		all = append(all, child)
	}
	return all, nil
}
