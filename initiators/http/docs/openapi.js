"use strict";

// What can be told of a document of OpenAPI 3.1 without a page.
const openapi = (() => {
	const deepest = 12; // schemas within schemas
	const methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

	// deref follows references within doc, as far as there is something. A reference that goes in circles is undefined.
	function deref(doc, v) {
		for (let hops = 0; v && typeof v === "object" && typeof v.$ref === "string"; hops++) {
			if (hops === deepest || !v.$ref.startsWith("#/")) return undefined;
			let at = doc;
			for (const part of v.$ref.slice(2).split("/")) {
				const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
				at = at && typeof at === "object" && Object.hasOwn(at, name) ? at[name] : undefined;
			}
			v = at;
		}
		return v;
	}

	// operations are all operations of doc, by tag, in the order of its tags.
	function operations(doc) {
		const tags = new Map();
		for (const t of doc.tags || []) tags.set(t.name, { name: t.name, description: t.description || "", operations: [] });
		for (const [path, item] of Object.entries(doc.paths || {})) {
			for (const method of methods) {
				const op = item[method];
				if (!op) continue;
				const parameters = [...(item.parameters || []), ...(op.parameters || [])].map((p) => deref(doc, p)).filter(Boolean);
				for (const tag of op.tags && op.tags.length ? op.tags : ["other"]) {
					if (!tags.has(tag)) tags.set(tag, { name: tag, description: "", operations: [] });
					tags.get(tag).operations.push({ path, method, op, parameters, id: op.operationId || method + " " + path });
				}
			}
		}
		return [...tags.values()].filter((t) => t.operations.length > 0);
	}

	// typeOf is the type of a schema, without the null that many allow besides.
	function typeOf(schema) {
		if (Array.isArray(schema.type)) return schema.type.find((t) => t !== "null") || "null";
		if (schema.type) return schema.type;
		if (schema.properties || schema.additionalProperties) return "object";
		if (schema.items || schema.prefixItems) return "array";
		return "";
	}

	// example is a value that fits a schema, or nearly.
	function example(doc, schema, depth = 0) {
		schema = deref(doc, schema);
		if (!schema || typeof schema !== "object" || depth > deepest) return null;
		if (Array.isArray(schema.examples) && schema.examples.length) return schema.examples[0];
		for (const given of ["example", "default", "const"]) if (given in schema) return schema[given];
		if (Array.isArray(schema.enum) && schema.enum.length) return schema.enum[0];
		for (const choice of ["oneOf", "anyOf"]) if (Array.isArray(schema[choice])) return example(doc, schema[choice][0], depth + 1);
		switch (typeOf(schema)) {
		case "array": return exampleOfArray(doc, schema, depth);
		case "boolean": return false;
		case "integer": return exampleOfNumber(schema, 1);
		case "number": return exampleOfNumber(schema, 0.5);
		case "string": return exampleOfString(schema);
		case "null": return null;
		}
		return exampleOfObject(doc, schema, depth);
	}

	function exampleOfObject(doc, schema, depth) {
		const out = {};
		for (const part of schema.allOf || []) {
			const v = example(doc, part, depth + 1);
			if (v && typeof v === "object" && !Array.isArray(v)) Object.assign(out, v);
		}
		const set = (name, v) => Object.defineProperty(out, name, { value: v, enumerable: true, configurable: true, writable: true });
		for (const [name, property] of Object.entries(schema.properties || {})) set(name, example(doc, property, depth + 1));
		const more = schema.additionalProperties;
		if (more && typeof more === "object" && Object.keys(out).length === 0) set("key", example(doc, more, depth + 1));
		return out;
	}

	function exampleOfArray(doc, schema, depth) {
		if (Array.isArray(schema.prefixItems)) return schema.prefixItems.map((s) => example(doc, s, depth + 1));
		const item = schema.items && typeof schema.items === "object" ? example(doc, schema.items, depth + 1) : null;
		return Array(Math.min(Math.max(schema.minItems || 1, 1), 10)).fill(item);
	}

	function exampleOfNumber(schema, step) {
		const low = schema.exclusiveMinimum !== undefined ? schema.exclusiveMinimum + step : schema.minimum;
		const high = schema.exclusiveMaximum !== undefined ? schema.exclusiveMaximum - step : schema.maximum;
		let v = 1;
		if (low !== undefined && v < low) v = low;
		if (high !== undefined && v > high) v = high;
		return v;
	}

	function exampleOfString(schema) {
		const known = {
			"date-time": "2030-01-31T12:00:00Z", date: "2030-01-31", time: "12:00:00Z", duration: "PT1M", email: "name@example.org",
			uuid: "123e4567-e89b-12d3-a456-426614174000", uri: "https://example.org/", ipv4: "192.0.2.1", ipv6: "2001:db8::1", hostname: "example.org",
		};
		if (Object.hasOwn(known, schema.format || "")) return known[schema.format];
		if (schema.contentEncoding === "base64") return "aGVsbG8=";
		let s = "text";
		if (schema.minLength > s.length) s = s.padEnd(Math.min(schema.minLength, 1000), "x");
		return schema.maxLength < s.length ? s.slice(0, schema.maxLength) : s;
	}

	// indent is JSON on lines, with its numbers as they are written. What is no JSON stays as it is.
	function indent(text) {
		try {
			JSON.parse(text);
		} catch {
			return text;
		}
		let out = "", level = 0, open = false;
		const line = () => "\n" + "  ".repeat(level);
		for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g)) {
			if (token === "}" || token === "]") {
				level--;
				out += (open ? "" : line()) + token;
			} else {
				if (open) out += line();
				if (token === ",") out += "," + line();
				else out += token === ":" ? ": " : token;
			}
			open = token === "{" || token === "[";
			if (open) level++;
		}
		return out;
	}

	// request is what fetch is told: the URL below base, and the method, headers and body. values are what was given for the parameters
	// and, as "body" and "type", for the body. Parameters without a value are left out; the path needs all of its own.
	function request(base, operation, values, credential) {
		let path = operation.path;
		const query = new URLSearchParams(), headers = {};
		for (const p of operation.parameters) {
			const v = values[p.in + "." + p.name];
			if (p.in === "path") {
				if (!v) throw new Error("The path needs a value for " + p.name + ".");
				path = path.replaceAll("{" + p.name + "}", v.split("/").map(encodeURIComponent).join(p["x-skybus-rest"] ? "/" : "%2F"));
			} else if (v && p.in === "query") query.append(p.name, v);
			else if (v && p.in === "header") headers[p.name] = v;
		}
		if (/[{}]/.test(path)) throw new Error("The path " + path + " has a placeholder that nothing is said of.");
		headers.Accept = values.accept || "application/json";
		const init = { method: operation.method.toUpperCase(), headers };
		if (operation.op.requestBody && init.method !== "GET" && init.method !== "HEAD") {
			headers["Content-Type"] = values.type || "application/json";
			init.body = values.body || "";
		}
		if (credential) headers[credential.header] = credential.prefix + credential.secret;
		const text = query.toString();
		return { url: base.replace(/\/$/, "") + path + (text ? "?" + text : ""), init };
	}

	// curl is a request as a command for a shell of POSIX, with the credential left out.
	function curl({ url, init }, credential) {
		const quote = (s) => "'" + s.replaceAll("'", "'\\''") + "'";
		const parts = ["curl", "-X", init.method];
		for (const [name, v] of Object.entries(init.headers)) {
			const secret = credential && name === credential.header;
			parts.push("-H", secret ? quote(name + ": " + credential.prefix) + '"$SECRET"' : quote(name + ": " + v));
		}
		if (init.body) parts.push("--data-binary", quote(init.body));
		return [...parts, quote(url)].join(" ");
	}

	// schemes are the credentials that a document tells of and that a page can send.
	function schemes(doc) {
		const out = [];
		for (const [name, raw] of Object.entries((doc && doc.components && doc.components.securitySchemes) || {})) {
			const s = deref(doc, raw) || {};
			if (s.type === "apiKey" && s.in === "header") out.push({ name, header: s.name, prefix: "" });
			if (s.type === "http" && (s.scheme || "").toLowerCase() === "bearer") out.push({ name, header: "Authorization", prefix: "Bearer " });
		}
		return out.length ? out : [{ name: "Bearer token", header: "Authorization", prefix: "Bearer " }, { name: "API key", header: "X-Api-Key", prefix: "" }];
	}

	return { deref, operations, typeOf, example, indent, request, curl, schemes };
})();
