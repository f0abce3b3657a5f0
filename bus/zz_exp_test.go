package bus_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

func TestExp(t *testing.T) {
	var m map[string]string
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	err := bus.MessagePack{}.Unmarshal([]byte("\xd7\xff\xdf\xff\xff\xff\xff\x00\x00\x00"), &m)
	runtime.ReadMemStats(&b)
	fmt.Println(err, b.TotalAlloc-a.TotalAlloc)
	var m2 map[string]any
	runtime.ReadMemStats(&a)
	err = bus.MessagePack{}.Unmarshal([]byte("\xd7\xff\xdf\x00\xff\xff\xff\x00\x00\x00"), &m2)
	runtime.ReadMemStats(&b)
	fmt.Println(err, b.TotalAlloc-a.TotalAlloc)
	for _, f := range []func(){
		func() { var x map[any]any; fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x81\x90\x01"), &x)) },
		func() { var x struct{ E error }; fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x81\xa1E\x01"), &x)) },
		func() { var x struct{ E fmt.Stringer }; fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x81\xa1E\x01"), &x)) },
		func() { var x any = 5; fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x01"), &x)) },
		func() { fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x01"), nil)) },
		func() { fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x01"), 5)) },
		func() { var x *struct{}; fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x80"), x)) },
		func() { var x time.Time; fmt.Println(bus.MessagePack{}.Unmarshal([]byte("\x92\xa0\xa0"), &x)) },
	} {
		func() {
			defer func() { if r := recover(); r != nil { fmt.Println("PANIC", r) } }()
			f()
		}()
	}
}
