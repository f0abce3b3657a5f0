package file

import (
	"io"

	"github.com/skybus-io/skybus/internal/prom"
)

// WriteMetrics writes the figures of sources in Prometheus's text format. The label source is their name.
func WriteMetrics(w io.Writer, sources ...*Source) error {
	f := prom.NewWriter(w, "skybus_files_")
	all := make([]Stats, len(sources))
	for i, s := range sources {
		all[i] = s.Stats()
	}
	for _, family := range []struct {
		name, kind, help string
		value            func(*Stats) float64
	}{
		{"active", "gauge", "Whether this process works on the source: 1, or 0 where another one does.", func(s *Stats) float64 { return truth(s.Active) }},
		{"takeovers_total", "counter", "How often this process began to work.", func(s *Stats) float64 { return float64(s.Takeovers) }},
		{"sent_total", "counter", "Records that the target took.", func(s *Stats) float64 { return float64(s.Sent) }},
		{"refused_total", "counter", "Records that were put aside.", func(s *Stats) float64 { return float64(s.Refused) }},
		{"retries_total", "counter", "Attempts that another one followed.", func(s *Stats) float64 { return float64(s.Retries) }},
		{"bytes_total", "counter", "Size of the records that were sent or put aside.", func(s *Stats) float64 { return float64(s.Bytes) }},
		{"finished_total", "counter", "Files that were finished.", func(s *Stats) float64 { return float64(s.Files) }},
		{"waiting", "gauge", "Files that are not begun.", func(s *Stats) float64 { return float64(s.Waiting) }},
		{"left_bytes", "gauge", "Bytes of files that are not done.", func(s *Stats) float64 { return float64(s.Left) }},
		{"unfinished", "gauge", "Records that were sent and that no checkpoint covers.", func(s *Stats) float64 { return float64(s.Unfinished) }},
		{"checkpoints_total", "counter", "Checkpoints that were written.", func(s *Stats) float64 { return float64(s.Checkpoints) }},
		{"rotations_total", "counter", "Rotations of a followed file.", func(s *Stats) float64 { return float64(s.Rotations) }},
		{"truncations_total", "counter", "Files that were cut while they were read.", func(s *Stats) float64 { return float64(s.Truncations) }},
		{"lost_total", "counter", "Files that were gone before all of them was read.", func(s *Stats) float64 { return float64(s.Lost) }},
		{"faults_total", "counter", "Errors of disk, server and directories that were waited out.", func(s *Stats) float64 { return float64(s.Faults) }},
	} {
		f.Head(family.name, family.kind, family.help)
		for i, s := range sources {
			f.Value(family.value(&all[i]), "source", s.Name())
		}
	}
	return f.Flush()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
