package bus_test

import (
	"testing"

	"github.com/skybus-io/skybus/bus"
)

// The subjects are a contract: other languages, permissions and streams spell them out.
func TestSubjects(t *testing.T) {
	t.Parallel()
	ns := bus.Namespace{App: "shop", Env: "prod"}
	tests := []struct{ name, got, want string }{
		{"service", ns.ServiceSubject("cart", "add"), "shop.prod.svc.cart.add"},
		{"version", ns.VersionSubject("cart", "1.2.3-rc.1+b", "add"), "shop.prod.ver.cart.1_2_3-rc_1=b.add"},
		{"one-way", ns.OneWaySubject("cart", "add"), "shop.prod.one.cart.add"},
		{"instance", ns.InstanceSubject("cart", "i1", "add"), "shop.prod.inst.cart.i1.add"},
		{"all", ns.AllSubject("cart", "add"), "shop.prod.all.cart.add"},
		{"control", ns.ControlSubject("cart", "i1", "stop"), "shop.prod.ctl.cart.i1.stop"},
		{"control of all", ns.ControlSubject("cart", "all", "cancel"), "shop.prod.ctl.cart.all.cancel"},
		{"event", ns.InstanceEventSubject("cart", "i1", "up"), "shop.prod.ev.instance.cart.i1.up"},
		{"async", ns.AsyncSubject("cart", "add"), "skybus.async.shop.prod.cart.add"},
		{"dead letter", ns.DeadLetterSubject("async", "7"), "skybus.dlq.shop.prod.async.7"},
		{"queue of service", bus.QueueService, "svc"},
		{"queue of version", bus.QueueVersion, "ver"},
		{"queue of one-way", bus.QueueOneWay, "one"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}
