package main

import (
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
)

// byteSize is a number of bytes on the command line: 1048576, 1MiB, 1M (both 2^20) or 1MB (10^6).
type byteSize int64

// UnmarshalText reads it from a flag.
func (b *byteSize) UnmarshalText(text []byte) error {
	s := string(text)
	digits := strings.TrimRight(s, "KMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, ok := unitOf(s[len(digits):])
	if err != nil || n <= 0 || !ok || n > math.MaxInt64/unit {
		return fmt.Errorf("%q: want a size such as 512MiB or 10GB", s)
	}
	*b = byteSize(n * unit)
	return nil
}

func unitOf(suffix string) (int64, bool) {
	base := int64(1 << 10)
	letter := strings.TrimSuffix(suffix, "iB")
	if letter == suffix {
		if letter = strings.TrimSuffix(suffix, "B"); letter != suffix {
			base = 1000
		}
	}
	power := strings.Index("KMGT", letter)
	if letter == "" && suffix != "iB" {
		return 1, true
	}
	if len(letter) != 1 || power < 0 {
		return 0, false
	}
	unit := base
	for range power {
		unit *= base
	}
	return unit, true
}

// checkAddr tells whether addr is a host and a port to listen on.
func checkAddr(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s %q: want host:port, as in 127.0.0.1:4222; port 0 picks a free one", flag, addr)
	}
	return nil
}
