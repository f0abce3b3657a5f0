package bus_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

type order struct {
	ID       string            `json:"id"`
	Amount   int64             `json:"amount"`
	Price    float64           `json:"price"`
	Paid     bool              `json:"paid"`
	At       time.Time         `json:"at"`
	Wait     time.Duration     `json:"wait"`
	Note     *string           `json:"note,omitempty"`
	Blob     []byte            `json:"blob"`
	Tags     map[string]string `json:"tags,omitempty"`
	Lines    []line            `json:"lines"`
	Free     any               `json:"free"`
	Internal string            `json:"-"`
	Plain    string
	embedded
}

type embedded struct {
	Shop string `json:"shop"`
}

type line struct {
	SKU   string `json:"sku"`
	Count uint32 `json:"count"`
}

func fullOrder() order {
	return order{
		ID:       "o-1 \x00\u2028<ü名>",
		Amount:   math.MinInt64,
		Price:    -0.1,
		Paid:     true,
		At:       time.Date(2026, 8, 1, 12, 30, 15, 987654321, time.UTC),
		Wait:     90 * time.Second,
		Note:     new("ring twice"),
		Blob:     []byte{0, 1, 0xff},
		Tags:     map[string]string{"": "empty", "a.b": "c"},
		Lines:    []line{{"x", math.MaxUint32}, {"", 0}},
		Free:     map[string]any{"deep": []any{"a", nil, true, 1.5}},
		Plain:    "no tag",
		embedded: embedded{Shop: "north"},
	}
}

// codecs are those that hold any Go value.
func codecs() map[string]bus.Codec {
	return map[string]bus.Codec{"json": bus.JSON{}, "msgpack": bus.MessagePack{}}
}

func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	values := map[string]order{"full": fullOrder(), "zero": {}, "zero time of year 1970": {At: time.Unix(0, 0).UTC()}}
	for codecName, codec := range codecs() {
		for name, want := range values {
			t.Run(codecName+" "+name, func(t *testing.T) {
				data, err := codec.Marshal(want)
				if err != nil {
					t.Fatal(err)
				}
				var got order
				if err := codec.Unmarshal(data, &got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(order{})); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
}

// Whoever switches codecs finds the same names.
func TestCodecsHaveTheSameNames(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]order{"full": fullOrder(), "zero": {}} {
		t.Run(name, func(t *testing.T) {
			keys := map[string][]string{}
			for codecName, codec := range codecs() {
				data, err := codec.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				var fields map[string]any
				if err := codec.Unmarshal(data, &fields); err != nil {
					t.Fatal(err)
				}
				for key := range fields {
					keys[codecName] = append(keys[codecName], key)
				}
				slices.Sort(keys[codecName])
			}
			if diff := cmp.Diff(keys["json"], keys["msgpack"]); diff != "" {
				t.Errorf("-json +msgpack:\n%s", diff)
			}
		})
	}
}

func TestMessagePackTagWins(t *testing.T) {
	t.Parallel()
	type both struct {
		A string `json:"j" msgpack:"m"`
	}
	data, err := bus.MessagePack{}.Marshal(both{"x"})
	if want := "\x81\xa1m\xa1x"; err != nil || string(data) != want {
		t.Errorf("got %q, %v, want %q", data, err, want)
	}
}

func TestMessagePackIsCompact(t *testing.T) {
	t.Parallel()
	data, err := bus.MessagePack{}.Marshal(map[string]int64{"n": 5})
	if want := "\x81\xa1n\x05"; err != nil || string(data) != want {
		t.Errorf("got %q, %v, want %q", data, err, want)
	}
}

func TestCodecUnknownFieldIsIgnored(t *testing.T) {
	t.Parallel()
	for name, codec := range codecs() {
		t.Run(name, func(t *testing.T) {
			data, err := codec.Marshal(map[string]any{"sku": "x", "new": map[string]any{"deep": []int{1, 2}}, "at": time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			var got line
			if err := codec.Unmarshal(data, &got); err != nil || got.SKU != "x" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestCodecRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		codec bus.Codec
		data  string
	}{
		{"JSON empty", bus.JSON{}, ""},
		{"JSON cut", bus.JSON{}, `{"sku":"x"`},
		{"JSON garbage after the value", bus.JSON{}, `{"sku":"x"} x`},
		{"JSON second value", bus.JSON{}, `{"sku":"x"}{"sku":"y"}`},
		{"JSON wrong type", bus.JSON{}, `{"sku":5}`},
		{"JSON out of range", bus.JSON{}, `{"count":4294967296}`},
		{"JSON not an object", bus.JSON{}, `[1]`},
		{"msgpack empty", bus.MessagePack{}, ""},
		{"msgpack cut", bus.MessagePack{}, "\x82\xa3sku\xa1x"},
		{"msgpack garbage after the value", bus.MessagePack{}, "\x81\xa3sku\xa1x\x00"},
		{"msgpack second value", bus.MessagePack{}, "\x81\xa3sku\xa1x\x81\xa3sku\xa1y"},
		{"msgpack wrong type", bus.MessagePack{}, "\x81\xa3sku\x05"},
		{"msgpack not a map", bus.MessagePack{}, "\xa1x"},
		{"msgpack key no string", bus.MessagePack{}, "\x81\x05\xa1x"},
		{"msgpack is JSON", bus.MessagePack{}, `{"sku":"x"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got line
			if err := tt.codec.Unmarshal([]byte(tt.data), &got); err == nil {
				t.Errorf("accepted as %+v", got)
			}
		})
	}
}

func TestCodecMarshalRefuses(t *testing.T) {
	t.Parallel()
	for name, codec := range codecs() {
		if data, err := codec.Marshal(make(chan int)); err == nil {
			t.Errorf("%s: a channel became %q", name, data)
		}
	}
}

// What is not a pointer to decode to is an error, as in encoding/json.
func TestCodecUnmarshalToNoPointer(t *testing.T) {
	t.Parallel()
	for name, codec := range codecs() {
		data, err := codec.Marshal(map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []any{nil, line{}, (*line)(nil)} {
			if err := codec.Unmarshal(data, v); err == nil {
				t.Errorf("%s: no error for %T", name, v)
			}
		}
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	body := []byte("\x00raw\xff")
	text := string(body)
	for _, v := range []any{body, &body, text, &text} {
		data, err := bus.Raw{}.Marshal(v)
		if err != nil || string(data) != text {
			t.Errorf("Marshal(%T) = %q, %v", v, data, err)
		}
	}
	if data, err := (bus.Raw{}).Marshal(nil); err != nil || len(data) != 0 {
		t.Errorf("Marshal(nil) = %q, %v", data, err)
	}
	var gotBytes []byte
	var gotText string
	for _, v := range []any{&gotBytes, &gotText} {
		if err := (bus.Raw{}).Unmarshal(body, v); err != nil {
			t.Errorf("Unmarshal to %T: %v", v, err)
		}
	}
	if string(gotBytes) != text || gotText != text {
		t.Errorf("got %q and %q, want %q", gotBytes, gotText, text)
	}
	body[0] = 'x'
	if gotBytes[0] != 0 {
		t.Error("Unmarshal kept a reference to its input")
	}
}

func TestRawRefusesOtherTypes(t *testing.T) {
	t.Parallel()
	for _, v := range []any{5, order{}, map[string]any{}, []string{"a"}, new(5)} {
		if data, err := (bus.Raw{}).Marshal(v); err == nil {
			t.Errorf("Marshal(%T) = %q", v, data)
		}
	}
	for _, v := range []any{nil, "text", []byte("bytes"), new(5), &order{}} {
		err := bus.Raw{}.Unmarshal([]byte("x"), v)
		if err == nil {
			t.Errorf("Unmarshal to %T: no error", v)
		}
	}
}

// upper is a codec of a user.
type upper struct{}

func (upper) ContentType() string { return "text/x-upper" }

func (upper) Marshal(v any) ([]byte, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errors.New("upper: want a string")
	}
	return []byte(strings.ToUpper(s)), nil
}

func (upper) Unmarshal(data []byte, v any) error {
	*v.(*string) = strings.ToLower(string(data))
	return nil
}

func TestCodecFor(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	plain := connect(t, s, bus.Config{})
	more := connect(t, s, bus.Config{Codecs: []bus.Codec{upper{}}})
	own := connect(t, s, bus.Config{Codec: upper{}})
	tests := []struct {
		name        string
		conn        *bus.Conn
		contentType string
		want        bus.Codec
	}{
		{"none", plain, "", bus.JSON{}},
		{"JSON", plain, "application/json", bus.JSON{}},
		{"charset", plain, "application/json; charset=utf-8", bus.JSON{}},
		{"capitals", plain, "Application/JSON", bus.JSON{}},
		{"capitals and charset", plain, "Application/JSON;Charset=UTF-8", bus.JSON{}},
		{"MessagePack", plain, "application/msgpack", bus.MessagePack{}},
		{"raw", plain, "application/octet-stream", bus.Raw{}},
		{"a user's", more, "text/x-upper", upper{}},
		{"a user's with charset", more, "text/x-upper; charset=utf-8", upper{}},
		{"the user's default", own, "text/x-upper", upper{}},
		{"none, with a user's default", own, "", bus.JSON{}},
		{"MessagePack beside a user's default", own, "application/msgpack", bus.MessagePack{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.conn.CodecFor(tt.contentType)
			if err != nil || got != tt.want {
				t.Errorf("CodecFor(%q) = %T, %v, want %T", tt.contentType, got, err, tt.want)
			}
		})
	}
	for _, unknown := range []string{"text/x-upper", "application", "application/xml", "*/*", "; charset=utf-8", " ", "a\r\nb", strings.Repeat("x", 5000)} {
		_, err := plain.CodecFor(unknown)
		wantRefused(t, err)
		if got := bus.AsError(err).HTTPStatus(); got != 415 {
			t.Errorf("CodecFor(%.20q): status %d, want 415", unknown, got)
		}
	}
}

func TestConnCodec(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	if got := connect(t, s, bus.Config{}).Codec(); got != (bus.MessagePack{}) {
		t.Errorf("default codec is %T, want MessagePack", got)
	}
	if got := connect(t, s, bus.Config{Codec: upper{}}).Codec(); got != (upper{}) {
		t.Errorf("codec is %T, want the configured one", got)
	}
	// A codec in Codecs is understood, not spoken.
	if got := connect(t, s, bus.Config{Codecs: []bus.Codec{upper{}}}).Codec(); got != (bus.MessagePack{}) {
		t.Errorf("codec is %T, want MessagePack", got)
	}
}

// The encoder is the module's own: what any MessagePack library writes is understood.
func TestMessagePackFromElsewhere(t *testing.T) {
	t.Parallel()
	type plain struct {
		SKU   string `msgpack:"sku"`
		Count uint32 `msgpack:"count"`
	}
	data, err := msgpack.Marshal(plain{"x", 7})
	if err != nil {
		t.Fatal(err)
	}
	var got line
	if err := (bus.MessagePack{}).Unmarshal(data, &got); err != nil || got != (line{"x", 7}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestJSONIsEncodingJSON(t *testing.T) {
	t.Parallel()
	want, err := json.Marshal(fullOrder())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (bus.JSON{}).Marshal(fullOrder()); err != nil || string(got) != string(want) {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
