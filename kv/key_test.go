package kv_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestCheckKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		key              string
		isKey, isPattern bool
	}{
		{"a", true, true},
		{"A-Z_0=.b.c", true, true},
		{long, true, true},
		{long + "." + long, true, true},
		{"*", false, true},
		{">", false, true},
		{"a.*.b", false, true},
		{"a.>", false, true},
		{"*.*.>", false, true},
		{"", false, false},
		{".", false, false},
		{"a.", false, false},
		{".a", false, false},
		{"a..b", false, false},
		{">.a", false, false},
		{"a.>.b", false, false},
		{"a*", false, false},
		{"a>", false, false},
		{"**", false, false},
		{"a b", false, false},
		{"a\x00", false, false},
		{"a\n", false, false},
		{"ä", false, false},
		{"a/b", false, false},
		{"$a", false, false},
		{long + "a", false, false},
		{strings.Repeat("a.", 127) + "aa", false, false},
		{strings.Repeat("a.", 127) + "a", true, true},
		{strings.Repeat("a", 5000), false, false},
	} {
		if err := kv.CheckKey(c.key); (err == nil) != c.isKey || err != nil && !errors.Is(err, kv.ErrBadKey) {
			t.Errorf("CheckKey(%.80q) = %v", c.key, err)
		}
		if err := kv.CheckPattern(c.key); (err == nil) != c.isPattern || err != nil && !errors.Is(err, kv.ErrBadKey) {
			t.Errorf("CheckPattern(%.80q) = %v", c.key, err)
		}
	}
}

// Whatever name comes from outside, it is an error to the caller and the connection stays up.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{})
	for _, key := range []string{"", "a.*", ">", "a b", "a\r\nPUB x 0", strings.Repeat("x", 5000)} {
		_, put := table.Put(ctx, key, widget{})
		_, create := table.Create(ctx, key, widget{})
		_, update := table.Update(ctx, key, widget{}, 1)
		_, get := table.Get(ctx, key)
		_, rev := table.GetRevision(ctx, key, 1)
		errs := []error{put, create, update, get, rev, table.Delete(ctx, key)}
		for _, err := range table.History(ctx, key) {
			errs = append(errs, err)
		}
		for i, err := range errs {
			if !errors.Is(err, kv.ErrBadKey) {
				t.Errorf("%d of %.20q: %v", i, key, err)
			}
		}
	}
	for _, pattern := range []string{"", "a.>.b", "a b", "x.\n", strings.Repeat("x", 5000)} {
		_, cp := table.Copy(ctx, pattern)
		errs := []error{cp, table.Follow(ctx, pattern, func([]kv.Entry[widget]) {})}
		for _, err := range table.List(ctx, pattern) {
			errs = append(errs, err)
		}
		for _, err := range table.Watch(ctx, pattern) {
			errs = append(errs, err)
		}
		if len(errs) != 4 {
			t.Errorf("%.20q: %d errors", pattern, len(errs))
		}
		for i, err := range errs {
			if !errors.Is(err, kv.ErrBadKey) {
				t.Errorf("%d of %.20q: %v", i, pattern, err)
			}
		}
	}
	if n := conn.NATS().Stats().Reconnects; n != 0 || conn.NATS().Status() != nats.CONNECTED {
		t.Errorf("connection %v, %d reconnects", conn.NATS().Status(), n)
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, s := range []string{"", "a", "a.b", "a.*.c", "a.>", ">", "a..b", "a b", "=", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, pattern := kv.CheckKey(s), kv.CheckPattern(s)
		if key == nil && pattern != nil {
			t.Errorf("%q is a key and no pattern", s)
		}
		if pattern != nil {
			return
		}
		if len(s) == 0 || len(s) > 255 || strings.ContainsAny(s, " \t\r\n\x00/\\") {
			t.Errorf("%q is accepted", s)
		}
		tokens := strings.Split(s, ".")
		for i, token := range tokens {
			wild := token == "*" || token == ">" && i == len(tokens)-1
			switch {
			case token == "" || len(token) > 64:
				t.Errorf("%q is accepted", s)
			case wild && key == nil:
				t.Errorf("%q is accepted as a key", s)
			case !wild && strings.ContainsAny(token, "*>"):
				t.Errorf("%q is accepted", s)
			}
		}
	})
}
