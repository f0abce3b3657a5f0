package initiators

import (
	"strings"
	"unicode"
)

// owned are members of an object that nobody else may set, by their paths: not by a name either that a decoder takes for the same.
type owned struct {
	all    bool              // all of it
	within map[string]*owned // by name, where all is not set
	folded map[string]bool   // the same names
}

func newOwned() *owned { return &owned{within: map[string]*owned{}, folded: map[string]bool{}} }

// ownedBy are the members of an object.
func ownedBy(object map[string]any) *owned {
	o := newOwned()
	for name := range object {
		o.add([]string{name})
	}
	return o
}

func (o *owned) add(path []string) {
	for _, name := range path {
		if o.within[name] == nil {
			o.within[name], o.folded[fold(name)] = newOwned(), true
		}
		o = o.within[name]
	}
	o.all = true
}

// clear leaves nothing of them in an object.
func (o *owned) clear(object map[string]any) {
	if len(o.within) == 0 {
		return
	}
	for name, v := range object {
		inner := o.within[name]
		if inner == nil && !o.folded[fold(name)] {
			continue
		}
		if inner == nil || inner.all {
			delete(object, name)
		} else if next := members(v); next != nil {
			object[name] = next
			inner.clear(next)
		}
	}
}

// fold makes names the same that encoding/json takes for the same.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for { // to the smallest of those that differ in case alone
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}
