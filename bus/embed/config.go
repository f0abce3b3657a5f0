package embed

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	defaultHost        = "127.0.0.1"
	defaultPort        = "4222"
	defaultClusterPort = "6222"
	minSync            = time.Millisecond
	routeReports       = 60 // of the attempts to reach a member that is away, one a second over each of several connections: the first, and one a minute
)

// options checks the configuration and says it in the server's words.
func (cfg Config) options() (*server.Options, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:             cfg.Name,
		NoSigs:                 true,
		JetStream:              true,
		JetStreamMaxStore:      cfg.MaxStore,
		StoreDir:               cfg.Dir,
		MaxPayload:             cfg.MaxPayload,
		PingInterval:           pingInterval,
		MaxPingsOut:            maxPingsOut,
		ReconnectErrorReports:  routeReports,
		DisableJetStreamBanner: true,
	}
	var err error
	if o.SyncInterval, o.SyncAlways, err = parseSync(cfg.Sync); err != nil {
		return nil, err
	}
	if o.Host, o.Port, err = parseListen(cfg.Listen, defaultPort); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if cfg.Cluster == "" {
		return o, nil
	}
	o.Cluster.Name = cfg.Cluster
	if o.Cluster.Host, o.Cluster.Port, err = parseListen(cfg.ClusterListen, defaultClusterPort); err != nil {
		return nil, fmt.Errorf("cluster listen: %w", err)
	}
	for _, r := range cfg.Routes {
		u, err := parseRoute(r)
		if err != nil {
			return nil, err
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

func (cfg Config) check() error {
	switch {
	case cfg.Dir == "":
		return errors.New("no directory for the store")
	case cfg.MaxStore < 0:
		return fmt.Errorf("max store %d: want bytes, or 0 for a share of the disk", cfg.MaxStore)
	case cfg.MaxPayload < 0:
		return fmt.Errorf("max payload %d: want bytes, or 0 for 1 MiB", cfg.MaxPayload)
	case strings.ContainsAny(cfg.Name, " \t\r\n"):
		return fmt.Errorf("name %q: want no spaces", cfg.Name)
	case strings.ContainsAny(cfg.Cluster, " \t\r\n"):
		return fmt.Errorf("cluster %q: want no spaces", cfg.Cluster)
	case cfg.Cluster == "" && len(cfg.Routes) > 0:
		return errors.New("routes without a cluster: name the cluster too")
	case cfg.Cluster == "" && cfg.ClusterListen != "":
		return errors.New("cluster listen without a cluster: name the cluster too")
	}
	return nil
}

func parseSync(s string) (interval time.Duration, always bool, err error) {
	switch s {
	case "":
		return 0, false, nil
	case "always":
		return 0, true, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < minSync {
		return 0, false, fmt.Errorf(`sync %q: want "always" or a duration of %v or more, like "1s"`, s, minSync)
	}
	return d, false, nil
}

// parseListen returns port -1 for a free one, as the server wants it.
func parseListen(s, port string) (string, int, error) {
	if s == "" {
		s = net.JoinHostPort(defaultHost, port)
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%q: want host:port", s)
	}
	n, err := strconv.Atoi(p)
	if err != nil || n < -1 || n > 65535 {
		return "", 0, fmt.Errorf("%q: want a port from 0 to 65535, 0 picks a free one", s)
	}
	if host == "" {
		host = defaultHost
	}
	if n == 0 {
		n = server.RANDOM_PORT
	}
	return host, n, nil
}

func parseRoute(s string) (*url.URL, error) {
	text := s
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "nats" && u.Scheme != "nats-route") {
		return nil, fmt.Errorf("route %q: want nats://host:port", s)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), defaultClusterPort)
	}
	return u, nil
}
