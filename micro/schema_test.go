package micro_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// The record of an instance has the schemas of its endpoints, of whatever form they are.
func TestSchemasInRecord(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "shop"}, endpoints(
		endpoint("greet", greet),
		endpoint("raw", func(_ context.Context, b []byte) ([]byte, error) { return b, nil }),
		func(svc *micro.Service) error {
			return micro.HandleServerStream(svc, "many", func(context.Context, hello, *micro.Sender[greeting]) error { return nil })
		},
		func(svc *micro.Service) error {
			return micro.HandleStream(svc, "any", func(context.Context, *micro.ServerStream) error { return nil })
		},
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "shop", 1)
	for name, told := range map[string]bool{"greet": true, "many": true, "raw": false, "any": false} {
		e, ok := c.Registry().Service("shop").Endpoint(name)
		if !ok || (e.Request != nil) != told || (e.Response != nil) != told {
			t.Errorf("%s: %v, request %s, response %s", name, ok, e.Request, e.Response)
		}
	}
	e, _ := c.Registry().Service("shop").Endpoint("greet")
	if !strings.Contains(string(e.Request), `"properties":{`) {
		t.Errorf("request %s", e.Request)
	}
}

// wide has a schema of about 4 KiB.
type wide struct {
	F00, F01, F02, F03, F04, F05, F06, F07, F08, F09, F10, F11, F12, F13, F14, F15 uint8
	F16, F17, F18, F19, F20, F21, F22, F23, F24, F25, F26, F27, F28, F29, F30, F31 uint8
	F32, F33, F34, F35, F36, F37, F38, F39, F40, F41, F42, F43, F44, F45, F46, F47 uint8
}

// Where the schemas of all do not fit, some are left out, which is told once, and the service runs.
func TestSchemasLeftOut(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var book logBook
	var adds []func(*micro.Service) error
	for i := range 64 {
		adds = append(adds, endpoint(fmt.Sprintf("e%02d", i), func(_ context.Context, w wide) (wide, error) { return w, nil }))
	}
	svc := serve(t, connect(t, s), micro.Config{Name: "shop", Logger: book.logger()}, endpoints(adds...))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "shop", 1)
	if err := micro.Handle(svc.Service, "late", greet); err != nil {
		t.Fatal(err)
	}
	var i *registry.Instance
	bustest.Eventually(t, "the late endpoint", func() bool {
		i = c.Registry().Service("shop").Online[0]
		_, ok := i.Endpoint("late")
		return ok
	})
	told := 0
	for _, e := range i.Endpoints {
		if e.Request != nil && e.Response != nil {
			told++
		}
	}
	if told < 3 || told > 20 || len(i.Endpoints) != 65 {
		t.Errorf("%d of %d endpoints have schemas", told, len(i.Endpoints))
	}
	data, err := json.Marshal(i.Record)
	if err != nil || len(data) > 42<<10 {
		t.Errorf("the record has %d bytes, %v: the rest is for attributes", len(data), err)
	}
	if n := strings.Count(book.String(), "do not fit into the record"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if _, err := micro.Call[wide](t.Context(), c, "shop.e63", wide{}); err != nil {
		t.Error(err)
	}
}
