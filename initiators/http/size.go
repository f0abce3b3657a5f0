package http

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// Bytes is a number of bytes. In JSON it is a number, or a text such as "64KiB", "10MB" or "1GiB".
type Bytes int64

// UnmarshalJSON reads a number or a text.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	text := string(bytes.TrimSpace(data))
	if text == "null" {
		return nil
	}
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	n, ok := parseBytes(text)
	if !ok {
		return bus.Errorf(bus.InvalidArgument, "size %.40q: want a number of bytes, or one with a unit such as 64KiB or 10MB", text)
	}
	*b = Bytes(n)
	return nil
}

func parseBytes(text string) (int64, bool) {
	number := strings.TrimRight(text, "BKMGibkmg")
	var unit int64
	switch strings.ToLower(text[len(number):]) {
	case "", "b":
		unit = 1
	case "kib", "k":
		unit = 1 << 10
	case "mib", "m":
		unit = 1 << 20
	case "gib", "g":
		unit = 1 << 30
	case "kb":
		unit = 1000
	case "mb":
		unit = 1000 * 1000
	case "gb":
		unit = 1000 * 1000 * 1000
	default:
		return 0, false
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// MarshalJSON writes the number.
func (b Bytes) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, int64(b), 10), nil }
