//go:build unix

package integration_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	httpauth "github.com/skybus-io/skybus/initiators/http/auth"
)

// TestKeysUnderRole has a gateway obey API keys with nothing but the rights of its role, which reads them and makes none.
func TestKeysUnderRole(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	admin, gateway, web := s.admin(t, "shop.prod"), s.part(t, auth.Gateway), s.client(t)
	cfg := httpauth.Config{Keys: &httpauth.KeysConfig{}}
	denied(t, "open keys that nobody made", func(ctx context.Context) error {
		_, err := httpauth.Open(ctx, s.part(t, auth.Gateway), cfg, httpauth.Options{})
		return err
	})
	keys, err := httpauth.OpenKeys(t.Context(), admin, false)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := httpauth.Open(t.Context(), gateway, cfg, httpauth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	key, secret, err := keys.New(t.Context(), httpauth.NewKey{Name: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	taken := func() bool {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header.Set("X-Api-Key", secret)
		p, err := guard.Authenticate(r)
		return err == nil && p.ID == key.ID
	}
	eventually(t, patience, "the key is taken", taken)

	own, err := httpauth.OpenKeys(t.Context(), s.part(t, auth.Gateway), true)
	if err != nil {
		t.Fatal(err)
	}
	denied(t, "a gateway makes a key", func(ctx context.Context) error {
		_, _, err := own.New(ctx, httpauth.NewKey{})
		return err
	})
	denied(t, "a gateway removes a key", func(ctx context.Context) error { return own.Remove(ctx, key.ID) })
	for name, conn := range map[string]*bus.Conn{"client": web, "service": s.service(t, "orders"), "router": s.part(t, auth.Router)} {
		denied(t, name+" reads keys", func(ctx context.Context) error {
			_, err := httpauth.OpenKeys(ctx, conn, true)
			return err
		})
		denied(t, name+" follows keys", func(ctx context.Context) error {
			_, err := httpauth.Open(ctx, conn, cfg, httpauth.Options{})
			return err
		})
	}
	refusedToFollow(t, s.part(t, auth.Gateway), httpauth.KeysBucket, "shop.dev.>")
	refusedToWrite(t, s.part(t, auth.Gateway), httpauth.KeysBucket, "shop.prod."+key.ID)

	if _, err := keys.Disable(t.Context(), key.ID, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the key is refused", func() bool { return !taken() })
	harmless(t, gateway)
}
