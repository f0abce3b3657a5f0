//go:build unix

package whole_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	soonest = 500 * time.Millisecond // until a timer is due
	latest  = 5 * time.Second
	// closeCall is how near to the time due some timers are cancelled, before or after.
	closeCall = 25 * time.Millisecond
	// routeTakes is about how long a request takes to come to the step that makes a timer.
	routeTakes = stepMost + 10*time.Millisecond
)

// timerPlan is what is done to a timer.
type timerPlan struct {
	after    time.Duration
	move     time.Duration // when it is moved, from its creation on; 0 means never
	moved    time.Duration // until it is due then
	step     bool          // made by a step of the route
	skyring  bool          // moved and cancelled by the API of Skyring
	cancel   time.Duration // when it is cancelled, from its creation on; 0 means never
	via, end int           // who is asked to move and to cancel it
}

func planTimer(r *rand.Rand) timerPlan {
	p := timerPlan{after: soonest + rand2(r, latest-soonest), via: 1, end: r.IntN(2), skyring: r.IntN(2) == 0, step: r.IntN(2) == 0}
	lasts := p.after
	if r.IntN(3) == 0 {
		p.move, p.moved = 1+rand2(r, p.after), soonest+rand2(r, latest-soonest)
		if r.IntN(3) == 0 { // at the last moment, or too late
			p.move = p.after - closeCall + rand2(r, 2*closeCall)
		}
		lasts = p.move + p.moved
	}
	switch r.IntN(8) {
	case 0:
		p.cancel = 1 + rand2(r, lasts)
	case 1: // at the last moment, or too late
		p.cancel = lasts - closeCall + rand2(r, 2*closeCall)
	}
	return p
}

// rand2 is a duration below d.
func rand2(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// timer creates a timer through the first scheduler, or has a step of the route do that; some are moved through the second, or cancelled through either.
func (l *load) timer(r *rand.Rand, id string) {
	p := planTimer(r)
	begin := time.Now()
	create := l.create
	if p.step {
		begin, create = begin.Add(routeTakes), func(id string, after time.Duration) bool { return l.createByStep(r, id, after) }
	}
	if !create(id, p.after) {
		return
	}
	if p.move > 0 {
		l.sleepUntil(begin.Add(p.move))
		l.move(id, p)
	}
	if p.cancel > 0 {
		l.sleepUntil(begin.Add(p.cancel))
		l.cancel(id, p)
	}
}

func (l *load) sleepUntil(at time.Time) { time.Sleep(time.Until(at)) } // it is what was planned, nothing is waited for

func (l *load) create(id string, after time.Duration) (ok bool) {
	o := operation{kind: created, id: id + "-create", timer: id, after: after, begin: time.Now()}
	a := l.schedulers[0].ask(l.asking(), createRequest(id, after.String(), l.sys.receiver+hookPath))
	var unfit string
	o.due, unfit = madeTimer(a)
	l.settle(o, a, unfit)
	return a.err == "" && unfit == ""
}

func createRequest(id, after, hook string) request {
	body := toText(map[string]any{
		"id": id, "after": after, "payload": map[string]string{"id": id},
		"target": map[string]string{"uri": hook, "timeout": "8s"},
		"retry":  map[string]any{"max_attempts": 50, "first": "100ms", "last": "2s"},
	})
	return request{http.MethodPost, "/v1/timers", []string{"Content-Type", "application/json"}, body}
}

// madeTimer reads the answer to a createRequest: when the timer is due, if that was answered.
func madeTimer(a response) (due time.Time, unfit string) {
	switch {
	case a.err != "":
	case a.status == http.StatusCreated:
		return dueOf(a.body), ""
	case a.status == http.StatusConflict: // a try before had been stored: ids are unique
	default:
		unfit = fmt.Sprintf("%d %.200s", a.status, a.body)
	}
	return time.Time{}, unfit
}

// createByStep has a timer made by a step of the route, called at either gateway.
func (l *load) createByStep(r *rand.Rand, id string, after time.Duration) (ok bool) {
	o := operation{kind: created, id: id + "-create", timer: id, after: after, step: true, begin: time.Now()}
	body := toText(asked{ID: id, After: after.String(), Hook: l.sys.receiver + hookPath})
	a := either(r, l.gateways).ask(l.asking(), request{http.MethodPost, "/whole", []string{"Content-Type", "application/json"}, body})
	var made done
	unfit := ""
	if a.err == "" && (a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &made) != nil || made.Tries == 0) {
		unfit = fmt.Sprintf("%d %.200s", a.status, a.body)
	}
	a.tries += max(made.Tries-1, 0)
	o.due, o.body = made.Due, a.body
	l.settle(o, a, unfit)
	return a.err == "" && unfit == ""
}

func (l *load) move(id string, p timerPlan) {
	o := operation{kind: moved, id: id + "-move", timer: id, after: p.moved, begin: time.Now()}
	req := request{http.MethodPatch, "/v1/timers/" + id, []string{"Content-Type", "application/json"}, toText(map[string]string{"after": p.moved.String()})}
	if p.skyring {
		req = request{http.MethodPut, "/timer/" + id, nil, toText(map[string]any{
			"timeout": p.moved.Milliseconds(), "data": map[string]string{"id": id},
			"callback": map[string]string{"transport": "http", "method": "post", "uri": l.sys.receiver + hookPath},
		})}
		o.after = p.moved.Truncate(time.Millisecond)
	}
	a := l.schedulers[p.via].ask(l.asking(), req)
	unfit := changed(&o, a, http.StatusOK)
	if o.outcome == acked && unfit == "" && !p.skyring {
		o.due = dueOf(a.body)
	}
	l.settle(o, a, unfit)
}

func (l *load) cancel(id string, p timerPlan) {
	o := operation{kind: canceled, id: id + "-cancel", timer: id, begin: time.Now()}
	req, want := request{method: http.MethodDelete, path: "/v1/timers/" + id}, http.StatusNoContent
	if p.skyring {
		req, want = request{method: http.MethodDelete, path: "/timer/" + id}, http.StatusAccepted
	}
	a := l.schedulers[p.end].ask(l.asking(), req)
	unfit := changed(&o, a, want)
	l.settle(o, a, unfit)
}

// changed sets the outcome of a change: what is unknown or due is not changed any more.
func changed(o *operation, a response, want int) (unfit string) {
	switch {
	case a.err != "" || a.status == want:
		return ""
	case a.status == http.StatusNotFound, a.status == http.StatusConflict:
		o.outcome = refused
		o.err = fmt.Sprintf("%d", a.status)
		return ""
	}
	return fmt.Sprintf("%d %.200s", a.status, a.body)
}

// dueOf is when a timer is due that an answer shows.
func dueOf(body string) time.Time {
	var shown struct {
		Due time.Time `json:"due"`
	}
	_ = json.Unmarshal([]byte(body), &shown) // without a due it is not compared
	return shown.Due
}

func toText(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and numbers only
	}
	return string(data)
}
