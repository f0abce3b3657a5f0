package http_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

type listed struct {
	Services []struct {
		Service, Description string
		Online               int
		Versions             []struct {
			Version                       string
			Online, Unregistered, Offline int
			Endpoints                     []struct {
				Name, Description, Call string
				Idempotent, Streams     bool
				Request, Response       json.RawMessage
			}
		}
	}
	SchemasLeftOut bool `json:"schemas_left_out"`
}

// The list tells of all services that have something for outsiders, by version, and how many instances are alive.
func TestServices(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.9.0", "one")
	h.shop(t, "1.9.0", "uno")
	off := h.shop(t, "1.10.0", "two")
	if err := off.SetRegistered(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	at := h.listen(t, gateway.Config{}) + "/v1/services"
	var list listed
	bustest.Eventually(t, "the unregistered instance", func() bool {
		list = decode[listed](t, send(t, "GET", at+"?service=shop", ""))
		return len(list.Services) == 1 && list.Services[0].Online == 2
	})
	shop := list.Services[0]
	if shop.Service != "shop" || shop.Description != "sells articles" || len(shop.Versions) != 2 {
		t.Fatalf("%+v", shop)
	}
	newest, older := shop.Versions[0], shop.Versions[1]
	if newest.Version != "1.10.0" || newest.Online != 0 || newest.Unregistered != 1 || older.Version != "1.9.0" || older.Online != 2 || older.Offline != 0 {
		t.Errorf("%+v\n%+v", newest, older)
	}
	var names []string
	for _, e := range older.Endpoints {
		names = append(names, e.Name)
	}
	if !slices.Equal(names, []string{"put", "tail"}) {
		t.Fatalf("endpoints %q, want none that is internal", names)
	}
	put := older.Endpoints[0]
	if put.Call != "/v1/call/shop/put" || put.Description != "Takes an order." || !put.Idempotent || put.Streams || !older.Endpoints[1].Streams {
		t.Errorf("%+v", older.Endpoints)
	}
	var schema struct {
		Type       string
		Properties map[string]struct{ Description string }
	}
	if err := json.Unmarshal(put.Request, &schema); err != nil || schema.Type != "object" || schema.Properties["id"].Description != "Id of the order." {
		t.Errorf("%s: %v", put.Request, err)
	}
	all := send(t, "GET", at, "")
	names = nil
	for _, s := range decode[listed](t, all).Services {
		names = append(names, s.Service)
	}
	if !cmp.Equal(names, []string{"app", "shop"}) {
		t.Errorf("services %q", names)
	}
	if a := send(t, "GET", at, "", "If-None-Match", `"x", W/`+all.header.Get("ETag")); a.status != http.StatusNotModified || a.body != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for query, status := range map[string]int{"?service=none": 404, "?service=a.b": 404, "?service=a&service=b": 400, "?x=1": 400, "?%zz": 400} {
		if a := send(t, "GET", at+query, ""); a.status != status {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	if a := send(t, "POST", at, "{}"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", a.status, a.header)
	}
}

// A list that is too large goes without schemas.
func TestServicesBounded(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	at := h.listen(t, gateway.Config{OpenAPI: gateway.OpenAPIConfig{MaxBytes: 1000}})
	a := send(t, "GET", at+"/v1/services?service=shop", "")
	if list := decode[listed](t, a); !list.SchemasLeftOut || len(list.Services) != 1 || len(a.body) > 1000 || strings.Contains(a.body, "properties") {
		t.Errorf("%d bytes: %s", len(a.body), a.body)
	}
}
