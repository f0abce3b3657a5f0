package getwidgets

import (
	"html/template"
	"net/http"
)

// Page serves the demo's form at "/".
func Page() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		_, _ = w.Write([]byte(head + form + tail)) // the client has gone
	})
	return mux
}

// AnswerPage shows what came of a request: for the gateway's Config.Answer.
func AnswerPage() *template.Template {
	return template.Must(template.New("answer").Parse(head + answer + form + tail))
}

const head = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>GetWidgets</title>
<style>
:root{color-scheme:light dark;--line:#8884;--accent:#2a7de1}
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
h1{font-size:2.2rem;margin:.2em 0}
.bad{color:#d33}.dim{opacity:.7;font-size:.9rem}
form{display:flex;gap:.5rem;margin:1.5rem 0}
input{flex:1;font:inherit;padding:.5rem .7rem;border:1px solid var(--line);border-radius:.4rem}
button{font:inherit;padding:.5rem 1.2rem;border:0;border-radius:.4rem;background:var(--accent);color:#fff;cursor:pointer}
table{border-collapse:collapse;width:100%;margin:1rem 0}
td,th{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
code{font-size:.9em}
</style>
<p class="dim">skybus demo</p>
`

const form = `<form method="post" action="/getwidgets">
<input name="input" placeholder="What kind of widget?" autofocus maxlength="1000" aria-label="input">
<button>Get widgets</button>
</form>
<p class="dim">A request runs the route <code>getwidgets</code>: <code>log.write</code> (asynchronous), <code>authorize.check</code>,
<code>getwidgets.get</code>. Stop instances, add some, edit the route: <code>skybus routes edit getwidgets</code>.</p>
`

const tail = "</html>\n"

const answer = `{{if .Error}}<h1 class="bad">{{.Status}} {{.StatusText}}</h1>
<p>{{.Error.Message}}</p>
{{if eq .Error.Code "unavailable"}}<p>As soon as an instance is back, the same request will succeed.
{{with .Error.Details.service}}<code>skybus instances --service {{.}}</code> shows who is known.{{end}}</p>{{end}}
{{else}}<h1>{{with .Response.output}}{{.}}{{else}}Done{{end}}</h1>
{{with .Response.trail}}{{if eq (printf "%T" .) "[]interface {}"}}<ul>{{range .}}<li>{{.}}{{end}}</ul>{{else}}<p>{{.}}</p>{{end}}{{end}}
{{end}}
{{if .Hops}}<table><tr><th>step<th>answered by<th>took<th>result
{{range .Hops}}<tr><td><code>{{.Target}}</code>
<td>{{if .Async}}{{if .Code}}-{{else}}stored, done by a worker{{end}}{{else}}<code>{{or .Instance "nobody"}}</code>{{end}}
<td>{{.Took}}<td>{{if .Code}}<span class="bad">{{.Code}}</span>{{else}}ok{{end}}
{{end}}</table>{{end}}
{{if .RequestID}}<p class="dim">request {{.RequestID}}</p>{{end}}
`
