package msgjson_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/skybus-io/skybus/internal/msgjson"
)

func TestFromJSON(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for in, want := range map[string]string{ // there and back; empty: it is refused
		`{"b":[1,-1,true,false,null,"x<\u00e9"],"a":{}}`: `{"b":[1,-1,true,false,null,"x<é"],"a":{}}`,
		`"\ud83d\ude00\\ud800"`:                          `"😀\\ud800"`,
		`9223372036854775807`:                            `9223372036854775807`,
		`-9223372036854775808`:                           `-9223372036854775808`,
		`18446744073709551615`:                           `18446744073709551615`,
		`1.50`:                                           `1.5`,
		`1e2`:                                            `100`,
		`-0`:                                             `-0`,
		`0.1`:                                            `0.1`,
		`100e-3`:                                         `0.1`,
		`5e-324`:                                         `5e-324`,
		`0e99999999999999999999`:                         `0`,
		nested(101):                                      nested(101),
		`18446744073709551616`:                           ``,
		`-9223372036854775809`:                           ``,
		`9007199254740993.0`:                             ``,
		`0.12345678901234567891`:                         ``,
		`1e400`:                                          ``,
		`1e-400`:                                         ``,
		`1e-99999999999999999999`:                        ``,
		`{"id":"a","id":"b"}`:                            ``,
		`[{"a":{"\u0061":1,"a":1}}]`:                     ``,
		"\"\xff\"":                                       ``,
		"{\"\xff\":1}":                                   ``,
		`"\ud800"`:                                       ``,
		`"\udc00\ud800"`:                                 ``,
		`"\ud800\u0061"`:                                 ``,
		"\xef\xbb\xbf{}":                                 ``,
		`{} {}`:                                          ``,
		`{`:                                              ``,
		``:                                               ``,
		nested(102):                                      ``,
		strings.Repeat("[", 100_000):                     ``,
	} {
		packed, err := msgjson.FromJSON([]byte(in))
		if want == "" {
			if err == nil {
				t.Errorf("%.80s becomes % x", in, packed)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.80s: %v", in, err)
			continue
		}
		if got, err := msgjson.ToJSON(packed); err != nil || string(got) != want {
			t.Errorf("%.80s becomes %.80s, %v", in, got, err)
		}
	}
}

func TestToJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"\xcf\x80\x00\x00\x00\x00\x00\x00\x00":                         `9223372036854775808`,
		"\xd3\x80\x00\x00\x00\x00\x00\x00\x00":                         `-9223372036854775808`,
		"\xca\x3d\xcc\xcc\xcd":                                         `0.10000000149011612`,
		"\xc4\x02\xff\x00":                                             `"/wA="`,
		"\xd6\xff\x00\x00\x00\x01":                                     `"1970-01-01T00:00:01Z"`,
		"\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x00":                     `"1970-01-01T00:00:00.000000001Z"`,
		"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff": `"1969-12-31T23:59:59Z"`,
		"\x82\xa1b\x90\xa1a\xc0":                                       `{"b":[],"a":null}`,
		"\x82\xa1a\x01\xa1a\x02":                                       ``, // a name twice
		"\x82\xa1a\x01\xd9\x01a\x02":                                   ``, // written in two ways
		"\x81\x01\x01":                                                 ``, // a number as a key
		"\x81\xc4\x01a\x01":                                            ``, // bytes as a key
		"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01":                 ``, // NaN as a key
		"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00":                         ``, // NaN
		"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00":                         ``, // infinity
		"\xa1\xff":                                                     ``, // no UTF-8
		"\x81\xa1\xff\x01":                                             ``,
		"\xdd\xff\xff\xff\xff":                                         ``, // a length beyond the input
		"\xdf\xff\xff\xff\xff\xa1a":                                    ``,
		"\xdb\xff\xff\xff\xffx":                                        ``,
		"\xc6\xff\xff\xff\xffx":                                        ``,
		"\xc9\xff\xff\xff\xff\xffx":                                    ``,
		"\xd4\x05\x00":                                                 ``, // no timestamp
		"\xc7\x00\xff":                                                 ``,
		"\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00":                     ``, // too many nanoseconds
		"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff": ``, // after the year 9999
		"\xc1":                               ``,
		"\x01\x01":                           ``, // bytes behind
		"":                                   ``,
		strings.Repeat("\x91", 101) + "\x01": ``,
		strings.Repeat("\x91", 1_000_000):    ``,
	} {
		got, err := msgjson.ToJSON([]byte(in))
		if (err == nil) != (want != "") || err == nil && string(got) != want {
			t.Errorf("%.40q becomes %.80s, %v; want %s", in, got, err, want)
		}
	}
}

// What a length claims takes no memory. It is counted, so nothing may run beside this test.
func TestClaims(t *testing.T) {
	for _, in := range []string{"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\xff"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := msgjson.ToJSON([]byte(in)); err == nil {
			t.Errorf("%q is taken", in)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%q takes %d bytes", in, n)
		}
	}
}

// FuzzFromJSON checks that what becomes MessagePack is read from it as it was.
func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.5,-0,1e2,null,true],"b":{"c":"d"}}`, `{"a":1,"a":2}`, `18446744073709551616`, `0.12345678901234567891`, `1e400`, `"\ud800"`, "\"\xff\"",
		"\xef\xbb\xbf{}", `{}{}`, strings.Repeat("[", 101) + strings.Repeat("]", 101), `"\ud83d\ude00"`, `9223372036854775808`, `0E999999999999`, `[1.0,1e-7,123456789.123]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		packed, err := msgjson.FromJSON(text)
		if err != nil {
			return
		}
		back, err := msgjson.ToJSON(packed)
		if err != nil {
			t.Fatalf("%q becomes % x, which is refused: %v", text, packed, err)
		}
		was, is := tokens(t, text), tokens(t, back)
		if len(was) != len(is) {
			t.Fatalf("%q becomes %q", text, back)
		}
		for i := range was {
			if !same(was[i], is[i]) {
				t.Fatalf("%q becomes %q: %v is %v", text, back, was[i], is[i])
			}
		}
	})
}

// tokens are those of valid JSON.
func tokens(t *testing.T, text []byte) (all []json.Token) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, token)
	}
}

func same(a, b json.Token) bool {
	x, ok := a.(json.Number)
	y, ok2 := b.(json.Number)
	if !ok || !ok2 {
		return a == b
	}
	if mantissa, _, _ := strings.Cut(strings.ToLower(x.String()), "e"); strings.Trim(mantissa, "-0.") == "" {
		return strings.Trim(y.String(), "-0") == "" // the exponent of 0 may be huge
	}
	r, ok := new(big.Rat).SetString(x.String())
	s, ok2 := new(big.Rat).SetString(y.String())
	return ok && ok2 && r.Cmp(s) == 0
}

// FuzzToJSON checks that what becomes JSON is valid, says the same to each, and no more than what a decoder of MessagePack finds.
func FuzzToJSON(f *testing.F) {
	for _, s := range []string{
		"\x82\xa1b\x90\xa1a\xc0", "\x82\xa1a\x01\xa1a\x02", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "\xca\x3d\xcc\xcc\xcd", "\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "\xc4\x02\xff\x00",
		"\xd6\xff\x00\x00\x00\x01", "\xa1\xff", "\xdd\xff\xff\xff\xff", "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01\x01", "\xd9\x01a", "\xde\x00\x01\xa0\xc3", "\x91\xdc\x00\x01\xd0\x80",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		text, err := msgjson.ToJSON(packed)
		if err != nil {
			return
		}
		var v any
		if err := msgpack.Unmarshal(packed, &v); err != nil {
			t.Fatalf("% x is %s, and no MessagePack: %v", packed, text, err)
		}
		again, err := msgjson.FromJSON(text)
		if err != nil {
			t.Fatalf("% x becomes %s, which is refused: %v", packed, text, err)
		}
		if back, err := msgjson.ToJSON(again); err != nil || !bytes.Equal(back, text) {
			t.Fatalf("% x becomes %s and then %s, %v", packed, text, back, err)
		}
	})
}
