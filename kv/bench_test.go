package kv_test

import (
	"fmt"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func benchTable(b *testing.B) *kv.Table[widget] {
	b.Helper()
	table := open(b, connect(b, bustest.Server(b)), kv.Config{})
	for i := range 1000 {
		put(b, table, fmt.Sprintf("k.%d", i), i)
	}
	return table
}

func BenchmarkTableGet(b *testing.B) {
	table := benchTable(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Get(b.Context(), "k.7"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTablePut(b *testing.B) {
	table := benchTable(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Put(b.Context(), "k.7", widget{"k.7", 8}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCopyGet(b *testing.B) {
	c := copyOf(b, benchTable(b), ">")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get("k.7"); !ok {
			b.Fatal("not there")
		}
	}
}

// From the beginning of a write until a copy of a thousand keys shows it.
func BenchmarkCopyChange(b *testing.B) {
	table := benchTable(b)
	c := copyOf(b, table, ">")
	b.ReportAllocs()
	for b.Loop() {
		changed := c.Changed()
		put(b, table, "k.7", 9)
		<-changed
	}
}
