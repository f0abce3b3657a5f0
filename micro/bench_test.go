package micro_test

import (
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func benchmarkClient(b *testing.B) *micro.Client {
	b.Helper()
	s := bustest.Server(b)
	serve(b, connect(b, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	c := newClient(b, connect(b, s), micro.ClientConfig{})
	sees(b, c, "greeter", 1)
	b.ReportAllocs()
	return c
}

// One caller, server and service in the same process.
func BenchmarkCall(b *testing.B) {
	c := benchmarkClient(b)
	for b.Loop() {
		if _, err := micro.Call[greeting](b.Context(), c, "greeter.hello", hello{Name: "you"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallParallel(b *testing.B) {
	c := benchmarkClient(b)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := micro.Call[greeting](b.Context(), c, "greeter.hello", hello{Name: "you"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
