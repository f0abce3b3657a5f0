//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// connect is a program with the SDK, until the test ends.
func connect(t *testing.T, server string) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{Server: server, Name: t.Name(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newClient(t *testing.T, conn *bus.Conn, cfg micro.ClientConfig) *micro.Client {
	t.Helper()
	client, err := micro.NewClient(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// awaitState waits until a registry has so many instances of a service in a state.
func awaitState(t *testing.T, reg *registry.Registry, service string, state registry.State, count int) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("%d instances of %s are %s", count, service, state), func() bool {
		return len(inState(reg, service, state)) == count
	})
}

func inState(reg *registry.Registry, service string, state registry.State) []string {
	s := reg.Service(service)
	if s == nil {
		return nil
	}
	var ids []string
	for _, list := range [][]*registry.Instance{s.Online, s.Rest} {
		for _, i := range list {
			if i.State == state {
				ids = append(ids, i.Instance)
			}
		}
	}
	return ids
}

// putRoute stores a route of the given steps through the SDK.
func putRoute(t *testing.T, conn *bus.Conn, name string, steps ...route.Step) {
	t.Helper()
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{Logger: conn.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), name, route.Route{Steps: steps}, 0); err != nil {
		t.Fatal(err)
	}
}

// callService calls a service for tests through the SDK.
func callService(client *micro.Client, target string) call {
	return func(ctx context.Context) (string, error) {
		answer, err := micro.Call[served](ctx, client, target, struct{}{})
		return answer.Instance, err
	}
}

// answer is one of the gateway's.
type answer struct {
	status int
	header http.Header
	body   string
}

// check is an error unless all went well.
func (a answer) check() error {
	if a.status == http.StatusOK {
		return nil
	}
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		return fmt.Errorf("status %d: %s", a.status, a.body)
	}
	return fmt.Errorf("status %d: %s", a.status, p.Detail)
}

// problem is an answer that is an error.
type problem struct {
	Title   string            `json:"title"`
	Status  int               `json:"status"`
	Detail  string            `json:"detail"`
	Code    bus.Code          `json:"code"`
	Details map[string]string `json:"details"`
}

// browser is a client with connections of its own.
type browser struct{ http.Client }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{http.Client{Transport: transport}}
}

// do makes a request; header is pairs of names and values.
func (b *browser) do(ctx context.Context, method, url, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

func (b *browser) get(t *testing.T, url string, header ...string) answer {
	t.Helper()
	a, err := b.do(t.Context(), http.MethodGet, url, "", header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (b *browser) post(t *testing.T, url, body string, header ...string) answer {
	t.Helper()
	a, err := b.do(t.Context(), http.MethodPost, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// widgets asks the demo for widgets, and fails unless it answers as it does.
func (b *browser) widgets(ctx context.Context, gateway string, header ...string) (trail []string, err error) {
	a, err := b.do(ctx, http.MethodPost, gateway+"/getwidgets", `{"input":"x"}`, append([]string{"Content-Type", "application/json"}, header...)...)
	if err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	var resp struct {
		Output string
		Trail  []string
	}
	if err := json.Unmarshal([]byte(a.body), &resp); err != nil {
		return nil, err
	}
	if resp.Output != "Hello World" {
		return nil, fmt.Errorf("output %q, want Hello World", resp.Output)
	}
	return resp.Trail, nil
}

// callWidgets asks a gateway with the demo; the instance is that of the service getwidgets.
func callWidgets(t *testing.T, gateway string) call {
	t.Helper()
	b := newBrowser(t)
	who := regexp.MustCompile(`getwidgets\.get on (\S+):`)
	return func(ctx context.Context) (string, error) {
		trail, err := b.widgets(ctx, gateway)
		if match := who.FindStringSubmatch(strings.Join(trail, "\n")); match != nil {
			return match[1], err
		}
		return "", err
	}
}

// callRoute calls a service for tests through a gateway.
func callRoute(t *testing.T, gateway, name string) call {
	t.Helper()
	b := newBrowser(t)
	return func(ctx context.Context) (string, error) {
		a, err := b.do(ctx, http.MethodPost, gateway+"/"+name, "{}", "Content-Type", "application/json")
		if err != nil {
			return "", err
		}
		if err := a.check(); err != nil {
			return "", err
		}
		var s served
		return s.Instance, json.Unmarshal([]byte(a.body), &s)
	}
}
