package http

// pagePolicy is the Content-Security-Policy of our pages: nothing from elsewhere, no scripts, no frames.
const pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const welcomePage = `<!doctype html>
<meta charset="utf-8"><title>skybus gateway</title>
<h1>skybus gateway</h1>
<p>This is where HTTP requests enter the bus. <code>POST /&lt;route&gt;</code> with a JSON body runs a route;
<code>skybus routes</code> lists them.</p>
`

const answerPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Route}}</title>
<style>body{font:16px/1.5 sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}.bad{color:#b00020}pre{overflow:auto}</style>
{{if .Error}}<h1 class="bad">{{.Status}} {{.StatusText}}</h1>
<p>{{.Error.Message}}</p>
{{else}}<h1>{{.Route}}</h1>
{{if .Response}}<table>{{range .Fields}}<tr><th>{{.Name}}<td>{{.Value}}{{end}}</table>{{else}}<pre>{{.Raw}}</pre>{{end}}
{{end}}
{{if .Hops}}<h2>Steps</h2>
<table><tr><th>step<th>answered by<th>took<th>result
{{range .Hops}}<tr><td>{{.Target}}<td>{{if .Async}}stored for later{{else}}{{.Instance}}{{end}}<td>{{.Took}}
<td>{{if .Code}}<span class="bad">{{.Code}}</span>{{else}}ok{{end}}{{end}}</table>{{end}}
{{if .RequestID}}<p>Request {{.RequestID}}</p>{{end}}
</html>
`
