package bus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// hostile are inputs that claim more than they hold.
func hostile() map[string]string {
	long := "\xff\xff\xff\xff"
	some := "\x00\x1f\xff\xff" // enough to see, and not to fall over when it is believed
	return map[string]string{
		"array of 2^32-1":           "\xdd" + long,
		"array of 2^16-1":           "\xdc\xff\xff\x00",
		"map of 2^32-1":             "\xdf" + long,
		"map of 2^16-1":             "\xde\xff\xff\xa0\x00",
		"string of 2^32-1":          "\xdb" + long + "abc",
		"bytes of 2^32-1":           "\xc6" + long + "abc",
		"extension of 2^32-1":       "\xc9" + long + "\xffabc",
		"string of 255":             "\xd9\xff",
		"array in a map":            "\x81\xa3sku\xdd" + long,
		"map in an array":           "\x91\xdf" + long,
		"many long arrays":          strings.Repeat("\xdd\x00\x00\x00\x05", 5),
		"size cut":                  "\xdd\xff\xff",
		"no size":                   "\xdf",
		"float cut":                 "\xcb\x00\x00",
		"depth 100,000":             strings.Repeat("\x91", 100_000) + "\x00",
		"depth 100,000 of maps":     strings.Repeat("\x81\xa1a", 100_000) + "\x00",
		"depth 102":                 strings.Repeat("\x91", 101) + "\x00",
		"not a type":                "\xc1",
		"not a type inside":         "\x92\x00\xc1",
		"trailing byte":             "\xc0\x00",
		"trailing value":            "\x80\x80",
		"empty":                     "",
		"timestamp 96 as map":       "\xc7\x0c\xff\xdf" + some + strings.Repeat("\x00", 7),
		"extension as map":          "\xd7\x05\xdf" + some + "\x00\x00\x00",
		"extension as small map":    "\xd7\x05\x81\xa1a\xdd" + some,
		"long extension as map":     "\xc7\x05\x05\xdf" + some,
		"longer extension as map":   "\xc8\x00\x05\x05\xdf" + some,
		"timestamp of 1 byte":       "\xd4\xff\x00",
		"timestamp of 16 bytes":     "\xd8\xff" + strings.Repeat("\x00", 16),
		"timestamp of a bad second": "\xc7\x0c\xff" + "\x3b\x9a\xca\x00" + strings.Repeat("\x00", 8),
	}
}

// record has a field of every kind that is decoded in a way of its own.
type record struct {
	Any   any                       `json:"any"`
	Map   map[string]any            `json:"map"`
	Text  map[string]string         `json:"text"`
	Ints  map[int64]line            `json:"ints"`
	Free  map[any]any               `json:"free"`
	Lines []line                    `json:"lines"`
	Ptrs  []*line                   `json:"ptrs"`
	Words []string                  `json:"words"`
	Blob  []byte                    `json:"blob"`
	Hash  [4]byte                   `json:"hash"`
	Grid  [2][]map[string][]float64 `json:"grid"`
	At    time.Time                 `json:"at"`
	Wait  time.Duration             `json:"wait"`
	Err   error                     `json:"err"`
	Str   fmt.Stringer              `json:"str"`
	Self  *record                   `json:"self"`
	embedded
}

// targets are fresh values to decode to.
func targets() []any {
	return []any{
		new(any), new(record), new(line), new([]line), new(map[string]any), new(map[string]string), new(map[string]line),
		new(map[any]any), new(map[string]map[string]any), new([]map[string]any), new([]string), new([]any), new(string),
		new([]byte), new(int64), new(float32), new(bool), new(time.Time), new(*record), new([3]int),
	}
}

// wantCheap decodes data to each of vs and fails the test when that takes more memory than the input justifies. It counts
// the allocations of the whole process, so nothing may run beside it.
func wantCheap(t *testing.T, data []byte, vs ...any) []error {
	t.Helper()
	const perByte, base = 512, 256 << 10
	errs := make([]error, len(vs))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i, v := range vs {
		errs[i] = bus.MessagePack{}.Unmarshal(data, v)
	}
	runtime.ReadMemStats(&after)
	if took, most := after.TotalAlloc-before.TotalAlloc, uint64(perByte*len(data)*len(vs)+base); took > most {
		t.Errorf("%d bytes to %d types, first %T, took %d bytes of memory, want at most %d: %.40q", len(data), len(vs), vs[0], took, most, data)
	}
	return errs
}

func TestMessagePackHostile(t *testing.T) {
	for name, data := range hostile() {
		t.Run(name, func(t *testing.T) {
			for _, v := range targets() {
				if errs := wantCheap(t, []byte(data), v); errs[0] == nil {
					t.Errorf("accepted as %T", v)
				}
			}
		})
	}
}

// Where it wants a map, the decoder takes the payload of a timestamp for one.
func TestMessagePackTimestampIsNoMap(t *testing.T) {
	tests := map[string]string{
		"2^21-1 entries":  "\xd7\xff\xdf\x00\x1f\xff\xff\x00\x00\x00",
		"size cut":        "\xd6\xff\xdf\x00\x1f\xff",
		"1 entry":         "\xd6\xff\x81\xa1a\x01",
		"1 entry, size16": "\xd7\xff\xde\x00\x01\xa1a\x01\x00\x00",
		"nil":             "\xd6\xff\xc0\xc0\xc0\xc0",
		"what follows":    "\x95\xd6\xff\x81\xa1a\xdd\x00\x1f\x7f\x7f",
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			for _, v := range []any{new(map[string]any), new(map[string]int), new(map[string]string), new([]map[string]any)} {
				if errs := wantCheap(t, []byte(data), v); errs[0] == nil {
					t.Errorf("accepted as %T", v)
				}
			}
		})
	}
}

// Times are written in the shortest of three forms; all come back, and the bytes around them too.
func TestMessagePackTimes(t *testing.T) {
	t.Parallel()
	seconds := []int64{math.MinInt32, -1, 0, 1, 0x7fff_ffff, 0x8000_0000, 0x8fff_ffff, 0xc000_0000, 0xdfff_ffff, 0xffff_ffff, 1 << 33, 1<<34 - 1, 1 << 34}
	nanos := []int64{0, 1, 500_000_000, 0x80 << 22, 0xc0 << 22, 0xde << 22, 0xdf << 22, 999_999_999}
	type two struct {
		A string    `json:"a"`
		T time.Time `json:"t"`
		U any       `json:"u"`
		Z string    `json:"z"`
	}
	for _, sec := range seconds {
		for _, nano := range nanos {
			at := time.Unix(sec, nano)
			data, err := bus.MessagePack{}.Marshal(two{"a", at, at, "z"})
			if err != nil {
				t.Fatal(err)
			}
			var got two
			if err := (bus.MessagePack{}).Unmarshal(data, &got); err != nil {
				t.Fatalf("%d.%09d: %v", sec, nano, err)
			}
			u, ok := got.U.(time.Time)
			if !got.T.Equal(at) || !ok || !u.Equal(at) || got.A != "a" || got.Z != "z" {
				t.Errorf("%d.%09d: got %+v", sec, nano, got)
			}
		}
	}
}

// The decoder leaves its input as it was, also where it decodes a corrected copy.
func TestMessagePackLeavesInput(t *testing.T) {
	t.Parallel()
	data, err := bus.MessagePack{}.Marshal([]any{time.Unix(0x8000_0000, 0), "x", time.Unix(5, 0xdf<<22)})
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(data)
	var got []any
	if err := (bus.MessagePack{}).Unmarshal(data, &got); err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v", got, err)
	}
	if !bytes.Equal(data, before) {
		t.Errorf("input is %x, was %x", data, before)
	}
}

// Reflection panics over these; the caller gets an error, and the next one a decoder that works.
func TestMessagePackValueThatDoesNotFit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data string
		v    any
		want string
	}{
		"map key that cannot be one": {"\x81\xa4free\x81\x90\x01", new(record), "a list as the key of a map"},
		"number for an error":        {"\x81\xa3err\x01", new(record), "a value of another kind"},
		"number for a Stringer":      {"\x81\xa3str\x01", new(record), "a value of another kind"},
		"nil for a time":             {"\x81\xa2at\xc0", new(record), "nil where there must be a value"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := bus.MessagePack{}.Unmarshal([]byte(tt.data), tt.v)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "*{") || strings.Contains(err.Error(), "reflect") {
				t.Fatalf("%v, want %q and no word of Go's", err, tt.want)
			}
			if cause := errors.Unwrap(err); cause == nil || !strings.Contains(cause.Error(), fmt.Sprintf("%T", tt.v)) {
				t.Errorf("the cause is %v, want it to name the type", cause)
			}
			var got line
			if err := (bus.MessagePack{}).Unmarshal([]byte("\x81\xa3sku\xa1x"), &got); err != nil || got.SKU != "x" {
				t.Errorf("afterwards: %+v, %v", got, err)
			}
		})
	}
}

// A mistake of the program's, not the sender's.
func TestMessagePackInterfaceOfInt(t *testing.T) {
	t.Parallel()
	if err := (bus.MessagePack{}).Unmarshal([]byte("\x01"), new(any(5))); err == nil {
		t.Error("no error")
	}
}

func TestMessagePackCut(t *testing.T) {
	t.Parallel()
	data, err := bus.MessagePack{}.Marshal(fullOrder())
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		var got order
		if err := (bus.MessagePack{}).Unmarshal(data[:n], &got); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d of %d bytes: %v, want %v", n, len(data), err, io.ErrUnexpectedEOF)
		}
	}
}

func TestMessagePackDepth(t *testing.T) {
	t.Parallel()
	nested := func(levels int) []byte { return []byte(strings.Repeat("\x91", levels) + "\x00") }
	var got any
	if err := (bus.MessagePack{}).Unmarshal(nested(100), &got); err != nil {
		t.Errorf("100 levels: %v", err)
	}
	if err := (bus.MessagePack{}).Unmarshal(nested(101), &got); err == nil {
		t.Error("101 levels: accepted")
	}
}

// A long valid input is no reason to refuse it.
func TestMessagePackLarge(t *testing.T) {
	t.Parallel()
	const n = 1 << 17
	data := binary.BigEndian.AppendUint32([]byte{0xdd}, n)
	data = append(data, bytes.Repeat([]byte{0x01}, n)...)
	var got []int
	if err := (bus.MessagePack{}).Unmarshal(data, &got); err != nil || len(got) != n {
		t.Errorf("got %d items, %v", len(got), err)
	}
	text := strings.Repeat("x", 3<<20)
	data, err := bus.MessagePack{}.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	var back string
	if err := (bus.MessagePack{}).Unmarshal(data, &back); err != nil || back != text {
		t.Errorf("got %d bytes, %v", len(back), err)
	}
}

func FuzzMessagePack(f *testing.F) {
	for _, data := range hostile() {
		f.Add([]byte(data))
	}
	values := []any{
		fullOrder(),
		line{"x", 7},
		map[string]any{"any": []any{1, "a", nil}, "map": map[string]any{"a": 1.5}},
		map[string]any{"free": map[string]any{}, "lines": []line{{}, {}}, "hash": []byte{1, 2, 3, 4}, "self": map[string]any{"at": time.Unix(1<<31, 0)}},
		map[string]any{"err": "text", "str": 5, "ints": map[int]line{5: {}}, "grid": []any{[]any{map[string]any{"a": []float64{1}}}}},
		time.Unix(5, 0xdf<<22), strings.Repeat("x", 300), make([]byte, 70_000), make([]any, 70_000),
	}
	for _, v := range values {
		data, err := bus.MessagePack{}.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		vs := targets()
		for i, err := range wantCheap(t, data, vs...) {
			if err != nil {
				continue
			}
			if _, err := (bus.MessagePack{}).Marshal(vs[i]); err != nil {
				t.Errorf("%T decoded, and not encoded again: %v", vs[i], err)
			}
		}
		if !bytes.Equal(data, before) {
			t.Error("the input was changed")
		}
	})
}
