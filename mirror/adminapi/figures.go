package adminapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/mirror"
)

// typeFigures is the media type of Prometheus's text format.
const typeFigures = "text/plain; version=0.0.4; charset=utf-8"

// figures answers with what Prometheus asks for.
func (h *Handler) figures(w http.ResponseWriter, _ *http.Request) error {
	f := &figures{mirror: h.mirror.Info().Name}
	all := h.mirror.Conditions()
	for _, g := range []struct {
		name, help string
		value      func(*mirror.Condition) float64
	}{
		{"waiting_writes", "Writes that the sender knows of and the backend has not applied.", func(c *mirror.Condition) float64 { return float64(c.Waiting) }},
		{"waiting_bytes", "Size of those in the sender's memory.", func(c *mirror.Condition) float64 { return float64(c.Bytes) }},
		{"lag_seconds", "Age of the oldest write in the sender's memory that the backend has not applied.", func(c *mirror.Condition) float64 { return c.Lag.Seconds() }},
		{"applied_seq", "All writes up to this one are applied by the backend.", func(c *mirror.Condition) float64 { return float64(c.Applied) }},
		{"active", "Whether the backend gets writes and reads.", func(c *mirror.Condition) float64 { return truth(c.Active) }},
		{"maintenance", "Whether writes for the backend are kept and not sent.", func(c *mirror.Condition) float64 { return truth(c.Maintenance) }},
	} {
		f.head("skybus_mirror_backend_"+g.name, "gauge", g.help)
		for _, c := range all {
			f.value(g.value(&c), "backend", c.Name)
		}
	}
	f.head("skybus_mirror_backend_state", "gauge", "1 for what the backend is to the sender.")
	for _, c := range all {
		for _, s := range []mirror.State{mirror.StateLive, mirror.StateBehind, mirror.StateDown, mirror.StateMaintenance, mirror.StateGap} {
			f.value(truth(c.State == s), "backend", c.Name, "state", string(s))
		}
	}
	send(w, http.StatusOK, typeFigures, []byte(f.text.String()))
	return nil
}

func truth(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// figures are written in Prometheus's text format.
type figures struct {
	mirror string
	name   string
	text   strings.Builder
}

func (f *figures) head(name, kind, help string) {
	f.name = name
	fmt.Fprintf(&f.text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// value writes a sample. Labels are pairs of tokens, which need no escapes.
func (f *figures) value(v float64, labels ...string) {
	f.text.WriteString(f.name + `{mirror="` + f.mirror + `"`)
	for i := 0; i+1 < len(labels); i += 2 {
		f.text.WriteString("," + labels[i] + `="` + labels[i+1] + `"`)
	}
	f.text.WriteString("} " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}
