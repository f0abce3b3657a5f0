package mirror

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A line is for what lasts, and not for each time that a stream is a little more, or less, than half full.
func TestFullness(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`level=(\w+) .* percent=(\d+)`)
	for _, tt := range []struct {
		name  string
		looks []uint64
		want  []string
	}{
		{"never", []uint64{10, 50, 50}, nil},
		{"history that goes in between", []uint64{60, 10, 95, 10, 60, 10}, nil},
		{"about half", []uint64{51, 51, 49, 51, 46, 51, 52}, []string{"WARN 51"}},
		{"worse and worse", []uint64{60, 70, 76, 74, 80, 80, 91, 92, 100}, []string{"WARN 70", "WARN 80", "WARN 92"}},
		{"worse, better, and worse again", []uint64{92, 92, 86, 97, 55, 97, 97, 60, 71, 76, 76, 50, 48, 60, 60}, []string{"WARN 92", "WARN 97", "WARN 76"}},
		{"all at once", []uint64{0, 100, 100, 100}, []string{"WARN 100"}},
		{"over, and again", []uint64{95, 95, 60, 80, 44, 10, 60, 60}, []string{"WARN 95", "INFO 44", "WARN 60"}},
	} {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, nil))
		var f fullness
		for _, percent := range tt.looks {
			f.look(t.Context(), log, &jetstream.StreamInfo{Config: jetstream.StreamConfig{MaxBytes: 1000}, State: jetstream.StreamState{Bytes: percent * 10}})
		}
		var got []string
		for _, found := range line.FindAllStringSubmatch(out.String(), -1) {
			got = append(got, found[1]+" "+found[2])
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	var f fullness
	for range 3 {
		f.look(t.Context(), slog.New(slog.DiscardHandler), &jetstream.StreamInfo{State: jetstream.StreamState{Bytes: 1 << 40}}) // without a limit none is full
	}
	if f.said != 0 {
		t.Errorf("a stream without a limit is %d %% full", f.said)
	}
}
