package micro_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
)

// guarded is a server with an admin, a user "binder" who makes no streams and a user "blind" who reads no configuration.
func guarded(t testing.TB) *bustest.Node {
	t.Helper()
	user := func(name string, deny ...string) *server.User {
		return &server.User{Username: name, Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: deny}}}
	}
	return bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			user("admin", "none"), user("binder", "$JS.API.STREAM.CREATE.>"),
			user("blind", "$JS.API.STREAM.*.KV_skybus_config", "$JS.API.DIRECT.GET.KV_skybus_config.>"),
		}
	}))
}

func as(user string) func(*bus.Config) {
	return func(cfg *bus.Config) { cfg.Options = []nats.Option{nats.UserInfo(user, "x")} }
}

// Where there is no configuration and the client may not make one, it works, and follows the one that somebody makes later.
func TestConfigurationComesLater(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	admin := connect(t, s, as("admin"))
	for _, version := range []string{"1.0.0", "2.0.0"} {
		serve(t, admin, micro.Config{Name: "who", Version: version, Instance: "v" + version[:1]}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
			return micro.Info(ctx).Instance, nil
		}))
	}
	loader := newClient(t, admin, micro.ClientConfig{Settings: micro.NoSettings{}})
	sees(t, loader, "who", 2) // so that the registry is there
	var book logBook
	c := newClient(t, connect(t, s, as("binder")), micro.ClientConfig{Logger: book.logger()})
	sees(t, c, "who", 2)
	if by := spread(t, c, 40); len(by) != 2 {
		t.Errorf("answers by %v", by)
	}
	if n := strings.Count(book.String(), "there is no configuration"); n != 1 {
		t.Errorf("told %d times: %s", n, book.String())
	}
	setConfig(t, admin, "who", config.ClientCanary, `{"2.0.0":1}`)
	bustest.Eventually(t, "the client to follow", func() bool { return spread(t, c, 10)["v2"] == 10 })
}

// Who may not read the configuration is told, and can go without.
func TestConfigurationIsDenied(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	setConfig(t, connect(t, s, as("admin")), "", config.ClientTimeoutTotal, "1s")
	blind := connect(t, s, as("blind"))
	_, err := micro.NewClient(t.Context(), blind, micro.ClientConfig{})
	wantCode(t, err, bus.PermissionDenied)
	if err == nil || !strings.Contains(err.Error(), "settings") {
		t.Errorf("unclear: %v", err)
	}
	newClient(t, blind, micro.ClientConfig{Settings: micro.NoSettings{}})
}
