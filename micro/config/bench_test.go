package config_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro/config"
)

// A read among 500 keys.
func BenchmarkGet(b *testing.B) {
	v, w := start(b, config.Config{})
	for n := range 500 {
		w.put(all, fmt.Sprintf("key.%d", n), "1")
	}
	w.put(shop, config.ClientTimeoutTotal, "5s")
	becomes(b, v, version, config.ClientTimeoutTotal, 5*time.Second)
	b.ReportAllocs()
	b.Run("set", func(b *testing.B) {
		for b.Loop() {
			config.Get(v, version, config.ClientTimeoutTotal, time.Second)
		}
	})
	b.Run("not set", func(b *testing.B) {
		for b.Loop() {
			config.Get(v, version, config.ClientTimeoutRetry, time.Second)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				config.Get(v, version, config.ClientTimeoutTotal, time.Second)
			}
		})
	})
	b.Run("setting", func(b *testing.B) {
		for b.Loop() {
			v.Setting("shop", "1.3.0", config.ClientTimeoutTotal)
		}
	})
}
