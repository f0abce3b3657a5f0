"use strict";

(() => {
	const shownBytes = 256 * 1024; // of an answer
	const byId = (id) => document.getElementById(id);
	const base = location.href.replace(/\/v1\/docs.*$/, "");
	let credential = null; // never stored
	let doc = null;

	// make is an element with attributes and children; texts are never read as HTML.
	function make(name, attributes, ...children) {
		const e = document.createElement(name);
		for (const [k, v] of Object.entries(attributes || {})) {
			if (typeof v === "boolean") e[k] = v;
			else e.setAttribute(k, v);
		}
		e.append(...children.filter((c) => c !== null && c !== undefined));
		return e;
	}

	// schemaTree shows a schema, each level when it is opened.
	function schemaTree(schema, depth = 0) {
		schema = openapi.deref(doc, schema);
		const list = make("ul", { class: "schema" });
		if (!schema || typeof schema !== "object" || depth > 8) return list;
		for (const part of schema.allOf || []) list.append(...schemaTree(part, depth + 1).childNodes);
		const required = schema.required || [];
		for (const [name, property] of Object.entries(schema.properties || {})) list.append(member(name, property, required.includes(name), depth));
		if (schema.items && typeof schema.items === "object") list.append(member("[ ]", schema.items, false, depth));
		if (schema.additionalProperties && typeof schema.additionalProperties === "object") list.append(member("*", schema.additionalProperties, false, depth));
		for (const choice of ["oneOf", "anyOf"]) for (const s of schema[choice] || []) list.append(member(choice, s, false, depth));
		return list;
	}

	function member(name, schema, required, depth) {
		const s = openapi.deref(doc, schema);
		const text = [make("code", {}, name), " ", make("span", { class: "type" }, typeText(s) + (required ? ", required" : ""))];
		if (s && s.description) text.push(" ", make("span", { class: "text" }, s.description));
		const inner = s && typeof s === "object" && (s.properties || s.items || s.allOf || s.oneOf || s.anyOf || typeof s.additionalProperties === "object");
		if (!inner || depth >= 8) return make("li", {}, ...text);
		const details = make("details", { open: depth === 0 }, make("summary", {}, ...text));
		const fill = () => details.children.length === 1 && details.append(schemaTree(s, depth + 1));
		if (depth === 0) fill();
		else details.addEventListener("toggle", fill, { once: true });
		return make("li", {}, details);
	}

	function typeText(s) {
		if (!s || typeof s !== "object") return "any";
		let text = Array.isArray(s.type) ? s.type.filter((t) => t !== "null").join(" or ") : s.type || openapi.typeOf(s) || "any";
		if (s.format || s.contentEncoding) text += " (" + (s.format || s.contentEncoding) + ")";
		if (s.enum) text += ": " + s.enum.slice(0, 20).map((v) => JSON.stringify(v)).join(", ");
		for (const [bound, sign] of [["minimum", "≥"], ["maximum", "≤"], ["minLength", "length ≥"], ["maxLength", "length ≤"]]) {
			if (bound in s) text += ", " + sign + " " + s[bound];
		}
		return text;
	}

	// mediaSchema is the schema of a body, of whatever type it is shown as.
	function mediaSchema(content) {
		const media = Object.values(content || {})[0];
		return media ? media.schema : undefined;
	}

	function operationElement(o) {
		const details = make("details", { class: "op", id: "op-" + o.id },
			make("summary", {}, make("span", { class: "method " + o.method }, o.method), " ", make("span", { class: "path" }, o.path), " ", make("span", { class: "dim" }, o.op.summary || "")));
		const fill = () => details.children.length === 1 && details.append(operationBody(o));
		details.addEventListener("toggle", () => details.open && fill());
		return details;
	}

	function operationBody(o) {
		const body = make("div", {});
		if (o.op.description) body.append(make("p", { class: "text" }, o.op.description));
		const needs = (o.op.security || []).map((s) => Object.keys(s).join(" and ") || "nothing");
		if (needs.length) body.append(make("p", { class: "note" }, "Credential: " + needs.join(" or ")));
		body.append(...tryForm(o));
		const request = mediaSchema(o.op.requestBody && o.op.requestBody.content);
		if (request) body.append(make("h3", {}, "Request"), schemaTree(request));
		body.append(make("h3", {}, "Answers"));
		for (const [status, raw] of Object.entries(o.op.responses || {})) {
			const r = openapi.deref(doc, raw) || {};
			const types = Object.keys(r.content || {}).join(", ");
			const schema = mediaSchema(r.content);
			const head = [make("code", {}, status), " ", r.description || "", " ", make("span", { class: "type" }, types)];
			const ok = /^2/.test(status);
			body.append(schema && ok ? make("div", {}, ...head, schemaTree(schema)) : make("div", {}, ...head));
		}
		return body;
	}

	// tryForm is the form that sends a request, and where its answer is shown.
	function tryForm(o) {
		const fields = new Map();
		const form = make("form", { class: "try", autocomplete: "off" });
		for (const p of o.parameters) {
			const input = make("input", { name: p.in + "." + p.name, required: p.in === "path", autocomplete: "off", spellcheck: "false", placeholder: typeText(openapi.deref(doc, p.schema)) });
			fields.set(p.in + "." + p.name, input);
			form.append(make("label", { title: p.description || "" }, p.name + " (" + p.in + ")", input));
		}
		const content = (o.op.requestBody && o.op.requestBody.content) || null;
		if (content) {
			const types = Object.keys(content).filter((t) => t.includes("json") || t.startsWith("text/"));
			const type = make("select", { name: "type" }, ...types.map((t) => make("option", {}, t)));
			const text = JSON.stringify(openapi.example(doc, mediaSchema(content)), null, 2);
			const area = make("textarea", { name: "body", spellcheck: "false" }, text);
			fields.set("type", type);
			fields.set("body", area);
			form.append(make("label", {}, "Content-Type", type), make("label", { class: "body" }, "Body (Ctrl+Enter sends)", area));
			area.addEventListener("keydown", (e) => (e.ctrlKey || e.metaKey) && e.key === "Enter" && form.requestSubmit());
		}
		const accepted = Object.keys((openapi.deref(doc, (o.op.responses || {})["200"]) || {}).content || {}).filter((t) => t !== "application/msgpack");
		const accept = make("select", { name: "accept" }, ...(accepted.length ? accepted : ["application/json"]).map((t) => make("option", {}, t)));
		fields.set("accept", accept);
		const send = make("button", {}, "Send"), stop = make("button", { type: "button", disabled: true }, "Stop");
		form.append(make("label", {}, "Accept", accept), send, stop);
		const answer = make("section", { class: "answer", "aria-label": "Answer" });
		form.addEventListener("submit", async (e) => {
			e.preventDefault();
			send.disabled = true;
			stop.disabled = false;
			const values = Object.fromEntries([...fields].map(([name, f]) => [name, f.value]));
			const abort = new AbortController();
			stop.onclick = () => abort.abort();
			try {
				await perform(o, values, answer, abort.signal);
			} finally {
				send.disabled = false;
				stop.disabled = true;
			}
		});
		return [form, answer];
	}

	// perform sends a request and shows what comes of it.
	async function perform(o, values, answer, signal) {
		const status = make("p", { role: "status" }, "Sending…");
		answer.replaceChildren(status);
		let r;
		try {
			r = openapi.request(base, o, values, credential);
		} catch (e) {
			status.replaceChildren(make("span", { class: "bad" }, e.message));
			return;
		}
		answer.append(make("details", {}, make("summary", {}, "As a command"), make("pre", { class: "curl" }, openapi.curl(r, credential))));
		const begin = performance.now();
		const took = () => Math.round(performance.now() - begin) + " ms";
		let text = "", bytes = 0;
		const body = make("pre", { class: "result", tabindex: "0", "aria-label": "Body of the answer" });
		try {
			const resp = await fetch(r.url, { ...r.init, signal, credentials: "same-origin", redirect: "manual", cache: "no-store" });
			const show = (more) => status.replaceChildren(make("span", { class: resp.ok ? "good" : "bad" }, resp.status + " " + resp.statusText), " in " + took() + ", " + bytes + " bytes" + more);
			const headers = [...resp.headers].map(([k, v]) => k + ": " + v).join("\n");
			answer.append(make("details", { open: true }, make("summary", {}, "Headers"), make("pre", { class: "headers" }, headers)), body);
			const decoder = new TextDecoder();
			for (const reader = resp.body ? resp.body.getReader() : null; reader; ) {
				const { done, value } = await reader.read();
				if (done) break;
				bytes += value.length;
				if (text.length < shownBytes) body.textContent = text += decoder.decode(value, { stream: true });
				show(", more may come");
			}
			show("");
			body.textContent = text.length < shownBytes ? openapi.indent(text) : text + "\n… and more, which is not shown";
		} catch (e) {
			status.append(" ", make("span", { class: "bad" }, signal.aborted ? "stopped after " + took() : "no answer after " + took() + ": " + e.message));
		}
	}

	// show makes the page of the document.
	function show() {
		const info = doc.info || {};
		document.title = info.title || "API";
		byId("title").textContent = info.title || "API";
		byId("about").textContent = info.description || "";
		byId("about").className = "text";
		const main = byId("operations");
		main.querySelectorAll("section.tag").forEach((s) => s.remove());
		const tags = openapi.operations(doc);
		for (const tag of tags) {
			const section = make("section", { class: "tag" }, make("h2", {}, tag.name));
			if (tag.description) section.append(make("p", { class: "text dim" }, tag.description));
			section.append(...tag.operations.map(operationElement));
			main.append(section);
		}
		const n = tags.reduce((sum, t) => sum + t.operations.length, 0);
		byId("state").textContent = n ? n + " operations" : "There is nothing to call yet.";
		filter();
		openNamed();
	}

	// filter leaves what has the words.
	function filter() {
		const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
		for (const section of document.querySelectorAll("section.tag")) {
			let any = false;
			for (const op of section.querySelectorAll(".op")) {
				const text = (section.querySelector("h2").textContent + " " + op.querySelector("summary").textContent).toLowerCase();
				op.hidden = !words.every((w) => text.includes(w));
				any = any || !op.hidden;
			}
			section.hidden = !any;
		}
	}

	// openNamed opens the operation that the address names, as #op-<id>.
	function openNamed() {
		const op = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
		if (!op || !op.classList.contains("op")) return;
		op.open = true;
		op.scrollIntoView();
		op.querySelector("summary").focus();
	}

	function showSchemes() {
		byId("scheme").replaceChildren(...openapi.schemes(doc).map((s, i) => make("option", { value: String(i) }, s.name)));
	}

	async function load() {
		const state = byId("state");
		try {
			const headers = { Accept: "application/json" };
			if (credential) headers[credential.header] = credential.prefix + credential.secret;
			const resp = await fetch(base + "/v1/openapi.json", { headers, cache: "no-cache" });
			if (!resp.ok) {
				const problem = await resp.json().catch(() => ({}));
				state.textContent = resp.status + " " + resp.statusText + ": " + (problem.detail || "the description cannot be read") + (resp.status === 401 ? " (give one above)" : "");
				return;
			}
			doc = await resp.json();
		} catch (e) {
			state.textContent = "The description cannot be read: " + e.message;
			return;
		}
		const chosen = byId("scheme").value;
		showSchemes();
		if (byId("scheme").options[chosen]) byId("scheme").value = chosen;
		show();
	}

	byId("credential").addEventListener("submit", (e) => {
		e.preventDefault();
		const scheme = openapi.schemes(doc)[Number(byId("scheme").value)];
		const secret = byId("secret").value.trim();
		byId("secret").value = "";
		credential = secret && scheme ? { ...scheme, secret } : null;
		byId("who").textContent = credential ? "used: " + credential.name : "none is used";
		load();
	});
	byId("forget").addEventListener("click", () => {
		credential = null;
		byId("secret").value = "";
		byId("who").textContent = "none is used";
	});
	byId("filter").addEventListener("input", filter);
	document.addEventListener("keydown", (e) => {
		if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName || "")) return;
		e.preventDefault();
		byId("filter").focus();
	});
	addEventListener("hashchange", openNamed);
	showSchemes();
	load();
})();
