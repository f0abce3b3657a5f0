package http

import (
	"net/http"
	"time"
)

// muxName stands for what Config.Mux serves where entries have their name, which has no parentheses.
const muxName = "(mux)"

// serveMux serves what Config.Mux has a pattern for.
func (g *Gateway) serveMux(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, server: w, gateway: g, request: r, begin: time.Now()}
	defer x.end()
	x.meet(g.byMux, r)
	leave, err := func() {}, x.arrive()
	if err == nil {
		leave, err = x.admit()
	}
	if err != nil {
		g.fail(x, r, x.answer, err)
		return
	}
	defer leave()
	g.cfg.Mux.ServeHTTP(x, r) // which sets the values of the path
}
