package http

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

const typeHTML = "text/html"

// form is what an answer is made into.
type form uint8

// The forms of answers.
const (
	formJSON form = iota
	formMessagePack
	formPage     // the page that shows any answer
	formTemplate // of the entry
)

// offer is a form that an entry can give its answers.
type offer struct {
	media    string
	form     form
	template renderer
}

// offersOf are the offers of an entry, the one for who does not care first.
func offersOf(templates map[string]renderer) []offer {
	var all []offer
	if t := templates[typeJSON]; t != nil {
		all = append(all, offer{typeJSON, formTemplate, t})
	} else {
		all = append(all, offer{typeJSON, formJSON, nil}, offer{typeMessagePack, formMessagePack, nil})
	}
	for _, media := range sorted(templates) {
		if media != typeJSON {
			all = append(all, offer{media, formTemplate, templates[media]})
		}
	}
	if templates[typeHTML] == nil {
		all = append(all, offer{typeHTML, formPage, nil})
	}
	return all
}

// mediaRange is one element of Accept.
type mediaRange struct {
	media   string
	quality float64
}

// parseAccept reads what a client accepts. What is malformed is left out.
func parseAccept(values []string) []mediaRange {
	var all []mediaRange
	for _, v := range values {
		for text := range strings.SplitSeq(v, ",") {
			media, params, err := mime.ParseMediaType(text)
			if err != nil {
				continue
			}
			r := mediaRange{media, 1}
			if q, ok := params["q"]; ok {
				r.quality, _ = strconv.ParseFloat(q, 64) // what is no number is 0: not wanted
			}
			if media == httpx.TypeProblem {
				r.media = typeJSON // it is how errors are written
			}
			all = append(all, r)
		}
	}
	return all
}

// matches tells how closely r matches a media type: 0 not at all, 3 exactly.
func (r mediaRange) matches(media string) int {
	switch {
	case r.media == media:
		return 3
	case r.media == "*/*":
		return 1
	case strings.HasSuffix(r.media, "/*") && strings.HasPrefix(media, r.media[:len(r.media)-1]):
		return 2
	}
	return 0
}

// choose finds the offer that the client likes best. Of several it is the one that it names first; of those that one range stands for, the one
// that is native, else the first. False means that it likes none.
func choose(accept []mediaRange, offers []offer, native string) (offer, bool) {
	var best offer
	bestQuality, bestAt := 0.0, 0
	for _, o := range offers {
		quality, at, how := 0.0, 0, 0
		for i, r := range accept {
			if m := r.matches(o.media); m > how {
				quality, at, how = r.quality, i, m
			}
		}
		better := quality > bestQuality || quality == bestQuality && (at < bestAt || at == bestAt && o.media == native)
		if quality > 0 && better {
			best, bestQuality, bestAt = o, quality, at
		}
	}
	return best, bestQuality > 0
}

// negotiate chooses the form of the answer, before anything is done. Who says nothing gets the codec of the request.
func (e *served) negotiate(r *http.Request) (offer, error) {
	native := typeJSON
	if len(r.Header["Content-Type"]) > 0 && isMessagePack(r.Header["Content-Type"][0]) {
		native = typeMessagePack
	}
	accept := r.Header["Accept"]
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == "") {
		return e.native(native), nil
	}
	if len(accept) == 1 && accept[0] == typeJSON {
		return e.native(typeJSON), nil
	}
	o, ok := choose(parseAccept(accept), e.offers, native)
	switch {
	case ok:
		return o, nil
	case e.lenient:
		return e.native(native), nil
	}
	var known []string
	for _, o := range e.offers {
		known = append(known, o.media)
	}
	err := bus.Errorf(bus.InvalidArgument, "the answer can be %s: nothing of that is accepted", strings.Join(known, ", "))
	err.Status = http.StatusNotAcceptable
	return offer{}, err
}

func (e *served) native(media string) offer {
	if i := slices.IndexFunc(e.offers, func(o offer) bool { return o.media == media }); i >= 0 {
		return e.offers[i]
	}
	return e.offers[0]
}

func isMessagePack(contentType string) bool {
	if contentType == typeJSON {
		return false
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == typeMessagePack
}

// wantsHTML tells whether the client is a browser that shows pages: of the types known here it likes text/html best, or
// as well as another one that it names later.
func wantsHTML(r *http.Request) bool {
	accept := r.Header["Accept"]
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == typeJSON) {
		return false
	}
	best, html := 0.0, false
	for _, a := range parseAccept(accept) {
		switch a.media {
		case typeHTML, typeJSON, typeMessagePack:
			if a.quality > best {
				best, html = a.quality, a.media == typeHTML
			}
		}
	}
	return html
}
