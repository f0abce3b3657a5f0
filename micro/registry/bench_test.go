package registry_test

import (
	"fmt"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// A lookup among 100 services with 5 instances each.
func BenchmarkService(b *testing.B) {
	conn := connect(b, bustest.Server(b))
	records, liveness := tables(b, conn)
	for n := range 500 {
		if err := write(b.Context(), records, liveness, fmt.Sprintf("s%d", n%100), fmt.Sprintf("i%d", n)); err != nil {
			b.Fatal(err)
		}
	}
	r := open(b, conn, nil)
	b.ReportAllocs()
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			lookUp(b, r)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				lookUp(b, r)
			}
		})
	})
}

func lookUp(b *testing.B, r *registry.Registry) {
	b.Helper()
	if s := r.Service("s42"); len(s.Online) != 5 || s.Offline() {
		b.Errorf("%+v", s)
	}
}
