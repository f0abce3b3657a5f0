package main

import (
	"io"
	"net/http"

	"github.com/skybus-io/skybus/initiators/file"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/internal/prom"
)

// serveFigures has the admin pages show what parts have done, at /metrics for Prometheus. Where no part tells, there is no such page.
func (p *platform) serveFigures() {
	if len(p.tcp) > 0 {
		p.figures = append(p.figures, func(w io.Writer) error { return tcp.WriteMetrics(w, p.tcpServers()) })
	}
	if len(p.files) > 0 {
		p.figures = append(p.figures, func(w io.Writer) error { return file.WriteMetrics(w, p.files...) })
	}
	if p.admin == nil || len(p.figures) == 0 {
		return
	}
	p.admin.Handle("GET /metrics", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", prom.ContentType)
		for _, write := range p.figures {
			if write(w) != nil {
				return // the client has gone
			}
		}
	}))
}
