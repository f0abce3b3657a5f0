//go:build unix

package whole_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dayOne is when all made-up runs begin.
func dayOne() time.Time { return time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) }

// madeUp is the evidence of a run of half a minute in which all is as it should be.
type madeUp struct {
	*evidence

	numbers map[string]uint64 // of the records of a child
}

func newMadeUp() *madeUp {
	m := &madeUp{&evidence{expected: childNames(), children: map[string]*childJournal{}, contents: map[string]content{}, mark: "mark"}, map[string]uint64{}}
	for _, name := range m.expected {
		m.children[name] = &childJournal{}
		m.at(name, 0, record{What: begun})
	}
	m.op(1, operation{kind: rerouted, id: "edit"})
	m.op(2, operation{kind: edited, id: "v1", body: "v1"})
	m.setting, m.route = "v1", `{"steps":[{"service":"order","endpoint":"create"},{"service":"stock","endpoint":"reserve"},{"service":"stock","endpoint":"remind"},{"service":"note","endpoint":"write"}]}`
	for s := 3; s < 30; s++ {
		m.second(s)
	}
	m.faults = []fault{{"kill", "gateway-1", moment(10), moment(11)}}
	for _, role := range services() {
		for i := range 3 {
			m.at(fmt.Sprintf("%s-%d", role, i+1), 3, record{What: learned, Body: "v1"})
		}
	}
	for i := range 3 {
		name := fmt.Sprintf("%s-%d", backendRole, i+1)
		c := newContent()
		for _, r := range m.children[name].records {
			if r.What == applied {
				c.apply(r)
			}
		}
		m.contents[name] = c
	}
	for _, name := range m.expected {
		m.at(name, 40, record{What: marked, ID: "mark"})
	}
	return m
}

// moment is so many seconds after the begin.
func moment(s float64) time.Time {
	return dayOne().Add(time.Duration(s * float64(time.Second)))
}

// second is one of each kind of thing.
func (m *madeUp) second(s int) {
	at := float64(s)
	for _, k := range []kind{called, once, routed} {
		id := fmt.Sprintf("%s-%d", k, s)
		m.op(at, operation{kind: k, id: id, body: `{"order":"order-1","stock":"stock-1"}`})
		m.at("order-1", at, record{What: stepped, Step: "order.create", ID: id})
		m.at("stock-1", at, record{What: stepped, Step: "stock.reserve", ID: id})
		m.at("stock-1", at, record{What: stepped, Step: "stock.remind", ID: id})
		m.at("note-2", at, record{What: stepped, Step: "note.write", ID: id})
	}
	id := fmt.Sprintf("later-%d", s)
	m.op(at, operation{kind: later, id: id})
	m.at("stock-2", at+0.1, record{What: stepped, Step: "stock.later", ID: id})
	file := fmt.Sprintf("file-%d", s)
	m.op(at, operation{kind: dropped, id: file, records: 2})
	for n := range 2 {
		m.at("note-1", at+0.1*float64(n+1), record{What: stepped, Step: fileTarget, ID: recordID(file, n), Key: recordID(file, n)})
	}
	m.at("order-3", at, record{What: led, Term: fmt.Sprintf("1.%d", 1+s/10)})
	m.at("order-3", at, record{What: acted, Term: fmt.Sprintf("1.%d", 1+s/10), Revision: uint64(s)}) //nolint:gosec // not negative
	m.write(at, operation{kind: written, id: fmt.Sprintf("write-%d", s), path: fmt.Sprintf("/hot/%d", s%2)}, "PUT")
	m.write(at+0.2, operation{kind: written, id: fmt.Sprintf("line-%d", s), path: "/list/1", add: true}, "POST")
	m.timer(at, fmt.Sprintf("timer-%d", s), s%3)
}

// write is a write, and the read of it.
func (m *madeUp) write(at float64, o operation, method string) {
	m.numbers["write"]++
	o.number, o.lane = m.numbers["write"], int(m.numbers["write"]%2)
	m.op(at, o)
	m.apply(at, record{Key: o.id, Number: o.number, Lane: o.lane, Method: method, Path: o.path, Body: o.id})
	body := o.id
	if o.add {
		body = "line-0\n" + o.id + "\n"
	}
	m.op(at+0.1, operation{kind: read, id: o.id, path: o.path, add: o.add, number: o.number, lane: o.lane, body: body})
}

func (m *madeUp) apply(at float64, r record) {
	r.What = applied
	for i := range 3 {
		m.at(fmt.Sprintf("%s-%d", backendRole, i+1), at, r)
	}
}

// timer is a timer that fires, is moved before, or is cancelled.
func (m *madeUp) timer(at float64, id string, what int) {
	due := moment(at + 1)
	m.op(at, operation{kind: created, id: id + "-create", timer: id, after: time.Second, due: due})
	switch what {
	case 1:
		due = moment(at + 1.5)
		m.op(at+0.5, operation{kind: moved, id: id + "-move", timer: id, after: time.Second, due: due})
	case 2:
		m.op(at+0.5, operation{kind: canceled, id: id + "-cancel", timer: id})
		return
	}
	m.deliver(id, due, due.Sub(dayOne()).Seconds()+0.01)
}

// cancelAfter is a timer that is cancelled after an attempt to deliver it.
func (m *madeUp) cancelAfter(id string, at float64) {
	m.op(at, operation{kind: created, id: id + "-create", timer: id, after: time.Second, due: moment(at + 1)})
	m.insert("receiver-1", at+1.01, record{What: delivered, ID: id, Key: "d", Due: moment(at + 1).UnixNano()})
	m.op(at+2, operation{kind: canceled, id: id + "-cancel", timer: id})
}

func (m *madeUp) deliver(id string, due time.Time, at float64) {
	key := "delivery-" + id
	m.at("receiver-1", at, record{What: delivered, ID: id, Key: key, Due: due.UnixNano()})
	m.numbers["write"]++
	w := record{Key: key, ID: id, Number: m.numbers["write"], Lane: 7, Method: "PUT", Path: itemPath + id, Body: id + " " + key}
	m.apply(at, w)
	w.What = wrote
	m.at("receiver-1", at, w)
	m.at("receiver-1", at, record{What: looked, Path: w.Path, Number: w.Number, Lane: 7, Status: 200, Body: w.Body})
}

func (m *madeUp) op(at float64, o operation) {
	o.begin, o.end, o.tries = moment(at), moment(at+0.05), max(o.tries, 1)
	m.ops = append(m.ops, o)
}

func (m *madeUp) at(child string, at float64, r record) {
	c := m.children[child]
	r.At, r.Seq = moment(at).UnixNano(), uint64(len(c.records)+1) //nolint:gosec // not negative
	c.records = append(c.records, r)
}

// change changes the first operation of a kind that fits.
func (m *madeUp) change(k kind, fits func(o operation) bool, f func(o *operation)) {
	i := slices.IndexFunc(m.ops, func(o operation) bool { return o.kind == k && (fits == nil || fits(o)) })
	f(&m.ops[i])
}

// without removes records of a child, the first that fits or all.
func (m *madeUp) without(child string, all bool, fits func(r record) bool) {
	c, n := m.children[child], 0
	c.records = slices.DeleteFunc(slices.Clone(c.records), func(r record) bool {
		if (all || n == 0) && fits(r) {
			n++
			return true
		}
		return false
	})
}

// insert adds a record before the mark of a child.
func (m *madeUp) insert(child string, at float64, r record) {
	c := m.children[child]
	r.At = moment(at).UnixNano()
	c.records = slices.Insert(slices.Clone(c.records), len(c.records)-1, r)
}

func (m *madeUp) first(child string, w what) *record {
	i := slices.IndexFunc(m.children[child].records, func(r record) bool { return r.What == w })
	return &m.children[child].records[i]
}

// plant is a mistake, and the rule that must find it.
type plant struct {
	name, rule string
	f          func(m *madeUp)
}

func step(name, id string) func(r record) bool {
	return func(r record) bool { return r.Step == name && r.ID == id }
}

func plantedCalls() []plant {
	return []plant{
		{"a step is missing", ruleCall, func(m *madeUp) { m.without("order-1", false, step("order.create", "call-9")) }},
		{"the step that the edit added is missing", ruleCall, func(m *madeUp) { m.without("stock-1", false, step("stock.reserve", "call once-9")) }},
		{"an asynchronous step is missing", ruleCall, func(m *madeUp) { m.without("note-2", false, step("note.write", "call routed-9")) }},
		{"an answer is empty", ruleCall, func(m *madeUp) { m.change(called, nil, func(o *operation) { o.body = "{}" }) }},
		{"an answer of later is missing", ruleLater, func(m *madeUp) { m.without("stock-2", false, step("stock.later", "later-9")) }},
		{"a record is missing", ruleRecord, func(m *madeUp) { m.without("note-1", false, step(fileTarget, "file-9.1")) }},
		{"a record has two keys", ruleTwice, func(m *madeUp) {
			m.insert("note-3", 20, record{What: stepped, Step: fileTarget, ID: "file-9.1", Key: "other"})
		}},
		{"records change places", ruleOrder, func(m *madeUp) {
			m.insert("note-3", 2, record{What: stepped, Step: fileTarget, ID: "file-9.1", Key: "file-9.1"})
		}},
		{"the old route runs", ruleRoute, func(m *madeUp) { m.change(once, nil, func(o *operation) { o.body = `{"order":"order-1"}` }) }},
		{"the old route is back at the end", ruleRoute, func(m *madeUp) { m.route = strings.Replace(m.route, "reserve", "other", 1) }},
		{"the configuration is old", ruleSetting, func(m *madeUp) { m.setting = "v0" }},
		{"an instance knows the old configuration", ruleSetting, func(m *madeUp) { m.insert("note-2", 20, record{What: learned, Body: "v0"}) }},
		{"a call failed", ruleFailed, func(m *madeUp) { m.change(called, nil, func(o *operation) { o.outcome, o.err = failed, "503" }) }},
		{"a call failed long after a server was away", ruleFailed, func(m *madeUp) {
			m.faults = append(m.faults, fault{"lost", "server-1", moment(4), moment(5)})
			m.change(called, func(o operation) bool { return o.begin.After(moment(15.5)) }, func(o *operation) { o.outcome, o.err = failed, "503" })
		}},
	}
}

func plantedTimers() []plant {
	return []plant{
		{"a timer does not fire", ruleTimer, func(m *madeUp) {
			m.without("receiver-1", true, func(r record) bool { return r.ID == "timer-9" })
		}},
		{"a delivery is not finished", ruleTimer, func(m *madeUp) {
			m.without("receiver-1", true, func(r record) bool { return r.ID == "timer-9" && r.What == wrote })
		}},
		{"a cancelled timer fires", ruleCancelled, func(m *madeUp) {
			m.insert("receiver-1", 12, record{What: delivered, ID: "timer-11", Key: "d", Due: moment(12).UnixNano()})
		}},
		{"a cancelled timer had been delivered, and nothing made that fail", ruleCancelled, func(m *madeUp) { m.cancelAfter("timer-late", 20) }},
		{"a timer is delivered again after its cancel", ruleCancelled, func(m *madeUp) {
			m.faults = append(m.faults, fault{"kill", "receiver-1", moment(21), moment(22)})
			m.cancelAfter("timer-late", 20)
			m.insert("receiver-1", 23, record{What: delivered, ID: "timer-late", Key: "d", Due: moment(21).UnixNano()})
		}},
		{"a timer fires before its time", ruleEarly, func(m *madeUp) { m.first("receiver-1", delivered).Due += int64(time.Second) }},
		{"a moved timer fires at its old time", ruleEarly, func(m *madeUp) {
			m.change(moved, nil, func(o *operation) { o.due = o.due.Add(time.Second) })
		}},
		{"a timer fires twice", ruleTwice, func(m *madeUp) {
			m.insert("receiver-1", 20, record{What: delivered, ID: "timer-9", Key: "other", Due: moment(10).UnixNano()})
		}},
		{"a timer fires that nobody made", ruleForeign, func(m *madeUp) {
			m.insert("receiver-1", 20, record{What: delivered, ID: "timer-x", Key: "x", Due: moment(10).UnixNano()})
		}},
		{"a timer is unknown", ruleDenied, func(m *madeUp) { m.change(canceled, nil, func(o *operation) { o.outcome, o.err = refused, "404" }) }},
	}
}

func plantedWrites() []plant {
	hot := func(r record) bool { return r.What == applied && r.Key == "write-9" }
	return []plant{
		{"a write is missing at one backend", ruleWrite, func(m *madeUp) { m.without("backend-2", false, hot) }},
		{"a write is missing at all", ruleWrite, func(m *madeUp) {
			for i := range 3 {
				m.without(fmt.Sprintf("backend-%d", i+1), false, hot)
			}
		}},
		{"the receiver's write is missing at all", ruleWrite, func(m *madeUp) {
			for i := range 3 {
				m.without(fmt.Sprintf("backend-%d", i+1), false, func(r record) bool { return r.What == applied && r.Lane == 7 })
			}
		}},
		{"two writes of a lane change places", ruleOrder, func(m *madeUp) {
			all := m.children["backend-1"].records
			i := slices.IndexFunc(all, hot)
			j := i + 1 + slices.IndexFunc(all[i+1:], func(r record) bool { return r.Lane == all[i].Lane })
			all[i], all[j] = all[j], all[i]
		}},
		{"two senders send", ruleOrder, func(m *madeUp) {
			all := m.children["backend-1"].records
			i := slices.IndexFunc(all, hot)
			j := i + 1 + slices.IndexFunc(all[i+1:], func(r record) bool { return r.Lane == all[i].Lane })
			m.children["backend-1"].records = slices.Insert(slices.Clone(all), j+1, all[i])
		}},
		{"a second sender follows the first", ruleSenders, func(m *madeUp) {
			var twice []record
			for _, r := range m.children["backend-1"].records {
				twice = append(twice, r)
				for range 2 {
					if r.What == applied && r.At > moment(15).UnixNano() {
						twice = append(twice, r)
					}
				}
			}
			m.children["backend-1"].records = twice
		}},
		{"a frozen sender sends more than was under way", ruleOrder, func(m *madeUp) {
			m.faults = append(m.faults, fault{frozen, "mirror-1", moment(8), moment(9)})
			all := m.children["backend-1"].records
			i := slices.IndexFunc(all, hot)
			j := i + 1 + slices.IndexFunc(all[i+1:], func(r record) bool { return r.Lane == all[i].Lane })
			m.children["backend-1"].records = slices.Insert(slices.Clone(all), j+1, all[i], all[j], all[i], all[j], all[i])
		}},
		{"a write has another key", ruleTwice, func(m *madeUp) { m.first("backend-3", applied).Key = "other" }},
		{"an answer names another write", ruleTwice, func(m *madeUp) { m.change(written, nil, func(o *operation) { o.number++ }) }},
		{"a write that nobody made", ruleForeign, func(m *madeUp) {
			m.mark = ""
			m.apply(20, record{Key: "x", Number: 1000, Method: "PUT", Path: "/hot/1", Body: "x"})
		}},
		{"a backend has another content", ruleContents, func(m *madeUp) { m.contents["backend-2"].Values["/hot/1"] = "other" }},
		{"a backend lacks a path", ruleContents, func(m *madeUp) { delete(m.contents["backend-2"].Values, "/list/1") }},
		{"a read is old", ruleStale, func(m *madeUp) {
			m.change(read, func(o operation) bool { return o.id == "write-9" }, func(o *operation) { o.body = "write-7" })
		}},
		{"a read lacks a line", ruleStale, func(m *madeUp) {
			m.change(read, func(o operation) bool { return o.id == "line-9" }, func(o *operation) { o.body = "line-8\nline-10\n" })
		}},
		{"the receiver reads nothing", ruleStale, func(m *madeUp) { m.first("receiver-1", looked).Status = 404 }},
	}
}

func plantedRest() []plant {
	return []plant{
		{"two lead at one time", ruleTerms, func(m *madeUp) { m.insert("order-2", 15.5, record{What: led, Term: "1.99"}) }},
		{"two have one term", ruleTerms, func(m *madeUp) { m.insert("order-2", 29.5, record{What: led, Term: "1.3"}) }},
		{"a term is not higher", ruleTerms, func(m *madeUp) { m.insert("order-2", 35, record{What: led, Term: "1.0"}) }},
		{"an older term acts", ruleFence, func(m *madeUp) { m.insert("order-2", 35, record{What: acted, Term: "1.1", Revision: 99}) }},
		{"two acts are the same revision", ruleFence, func(m *madeUp) { m.insert("order-2", 35, record{What: acted, Term: "1.3", Revision: 29}) }},
		{"nothing goes on", ruleProgress, func(m *madeUp) { m.faults[0].end = moment(32) }},
		{"one backend goes on late", ruleProgress, func(m *madeUp) {
			m.without("backend-2", true, func(r record) bool {
				return r.What == applied && r.At >= moment(11).UnixNano() && r.At < moment(27).UnixNano()
			})
		}},
		{"a child has no journal", ruleComplete, func(m *madeUp) { delete(m.children, "stock-3") }},
		{"a child's mark is not the last", ruleComplete, func(m *madeUp) { m.at("stock-3", 41, record{What: stepped, Step: "stock.later", ID: "x"}) }},
		{"a record is missing in a journal", ruleComplete, func(m *madeUp) { m.children["note-1"].wrong = []string{"record 9 follows 7"} }},
		{"a service ended too soon", ruleAbandoned, func(m *madeUp) { m.insert("order-2", 35, record{What: abandoned, Number: 1}) }},
		{"something waits", ruleLeft, func(m *madeUp) { m.left = []string{"SKYBUS_ASYNC holds 1"} }},
		{"no timer was moved", ruleVacuous, func(m *madeUp) {
			m.ops = slices.DeleteFunc(m.ops, func(o operation) bool { return o.kind == moved })
		}},
		{"nobody led", ruleVacuous, func(m *madeUp) { m.without("order-3", true, func(r record) bool { return r.What == led }) }},
	}
}

// TestVerdictPlanted shows that the verdict finds nothing in a run without mistakes, and each mistake by the rule it is against.
func TestVerdictPlanted(t *testing.T) {
	t.Parallel()
	if found := newMadeUp().judge().found; len(found) > 0 {
		t.Fatalf("without a mistake: %v", found)
	}
	for _, p := range slices.Concat(plantedCalls(), plantedTimers(), plantedWrites(), plantedRest()) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			m := newMadeUp()
			p.f(m)
			found := m.judge().found
			if len(found[p.rule]) == 0 {
				t.Errorf("not found by %q, but: %v", p.rule, found)
			}
			t.Logf("%v", slices.Sorted(maps.Keys(found)))
		})
	}
}

// TestVerdictAllows shows what is no mistake: what docs/mirror.md and docs/timers.md say may happen.
func TestVerdictAllows(t *testing.T) {
	t.Parallel()
	again := func(m *madeUp, key string, after int) { // a lane once more, from a write on
		all := m.children["backend-1"].records
		i := slices.IndexFunc(all, func(r record) bool { return r.What == applied && r.Key == key })
		lane, at := []record{}, i
		for ; len(lane) < after; at++ {
			if all[at].Lane == all[i].Lane && all[at].What == applied {
				lane = append(lane, all[at])
			}
		}
		m.children["backend-1"].records = slices.Insert(slices.Clone(all), at, lane...)
	}
	for name, f := range map[string]func(m *madeUp){
		"a write comes twice at once":   func(m *madeUp) { again(m, "write-9", 1) },
		"a new sender repeats a suffix": func(m *madeUp) { again(m, "write-9", 3) },
		"a timer is delivered again":    func(m *madeUp) { m.insert("receiver-1", 20, *m.first("receiver-1", delivered)) },
		"a step is done again":          func(m *madeUp) { m.insert("order-2", 20, *m.first("order-1", stepped)) },
		"a failed call while servers go": func(m *madeUp) {
			m.faults = append(m.faults, fault{"lost", "server-2", moment(9), moment(9.5)})
			m.change(called, func(o operation) bool { return o.begin.Equal(moment(9)) }, func(o *operation) { o.outcome, o.err = failed, "503" })
		},
		"a move that a try before had made": func(m *madeUp) {
			m.change(moved, nil, func(o *operation) { o.outcome, o.tries, o.after, o.err = refused, 3, 200*time.Millisecond, "404" })
			all := m.children["receiver-1"].records
			i := slices.IndexFunc(all, func(r record) bool { return r.What == delivered && r.ID == "timer-4" })
			all[i].Due = moment(4.8).UnixNano()
		},
		"a cancel between two attempts": func(m *madeUp) {
			m.faults = append(m.faults, fault{"kill", "receiver-1", moment(21), moment(22)})
			m.cancelAfter("timer-late", 20)
		},
		"a cancel of which nobody knows": func(m *madeUp) {
			m.faults = append(m.faults, fault{"stop", "all", moment(3), moment(3.5)})
			m.change(canceled, nil, func(o *operation) { o.outcome, o.err = failed, "503" })
		},
		"a write that came late when its sender had been frozen": func(m *madeUp) {
			m.faults = append(m.faults, fault{frozen, "mirror-1", moment(8), moment(9)})
			all := m.children["backend-1"].records
			i := slices.IndexFunc(all, func(r record) bool { return r.What == applied && r.Key == "write-8" })
			late := all[i]
			j := slices.IndexFunc(all, func(r record) bool { return r.What == applied && r.Key == "write-10" })
			late.At = all[j].At
			m.children["backend-1"].records = slices.Insert(slices.Clone(all), j+1, late)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMadeUp()
			f(m)
			if found := m.judge().found; len(found) > 0 {
				t.Errorf("%v", found)
			}
		})
	}
}

// TestJournalOfChild shows that nothing can be missing in what was read of a child, whatever killed it.
func TestJournalOfChild(t *testing.T) {
	t.Parallel()
	file := func(t *testing.T, edit func(lines []string) []string) *childJournal {
		t.Helper()
		dir := t.TempDir()
		for _, times := range []int{3, 4} { // killed and started again
			r, err := openRecorder(dir, "order-1")
			if err != nil {
				t.Fatal(err)
			}
			for n := range times {
				if err := r.add(record{What: stepped, ID: fmt.Sprint(n)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.out.Close(); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, "order-1"+journalSuffix)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := edit(strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n"))
		if err := os.WriteFile(path, []byte(strings.Join(lines, "")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newReader(dir)
		if _, err := r.read(); err != nil {
			t.Fatal(err)
		}
		return r.children["order-1"]
	}
	whole := file(t, func(lines []string) []string { return lines })
	if len(whole.wrong) > 0 || len(whole.records) != 9 {
		t.Errorf("%d records, want 9: %v", len(whole.records), whole.wrong)
	}
	torn := file(t, func(lines []string) []string { return slices.Insert(lines, 4, lines[3][:10]+"\n") })
	if len(torn.wrong) > 0 || len(torn.records) != 9 {
		t.Errorf("with half a line before the second begin: %d records, want 9: %v", len(torn.records), torn.wrong)
	}
	for name, edit := range map[string]func(lines []string) []string{
		"a line is missing":         func(lines []string) []string { return slices.Delete(lines, 2, 3) },
		"a line is there twice":     func(lines []string) []string { return slices.Insert(lines, 2, lines[1]) },
		"half a line in the middle": func(lines []string) []string { return slices.Insert(lines, 2, lines[1][:10]+"\n") },
	} {
		if c := file(t, edit); len(c.wrong) == 0 {
			t.Errorf("%s, and nothing is wrong", name)
		}
	}
}
