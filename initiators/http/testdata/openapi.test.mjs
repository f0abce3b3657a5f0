// Tests of docs/openapi.js: node --test.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const context = vm.createContext({ URLSearchParams });
vm.runInContext(readFileSync(new URL("../docs/openapi.js", import.meta.url), "utf8"), context);
const openapi = vm.runInContext("openapi", context);
const plain = (v) => JSON.parse(JSON.stringify(v)); // of this realm

test("an example fits its schema", () => {
	for (const [schema, want] of [
		[{ type: "string" }, "text"],
		[{ type: "string", minLength: 6 }, "textxx"],
		[{ type: "string", maxLength: 2 }, "te"],
		[{ type: ["null", "string"], format: "date-time" }, "2030-01-31T12:00:00Z"],
		[{ type: "string", format: "constructor" }, "text"],
		[{ type: "string", contentEncoding: "base64" }, "aGVsbG8="],
		[{ type: "integer", minimum: 7 }, 7],
		[{ type: "integer", maximum: -3 }, -3],
		[{ type: "integer", exclusiveMinimum: 4 }, 5],
		[{ type: "number" }, 1],
		[{ type: "boolean" }, false],
		[{ type: "null" }, null],
		[{ enum: ["b", "a"] }, "b"],
		[{ const: 0 }, 0],
		[{ type: "integer", default: 0 }, 0],
		[{ type: "integer", examples: [42] }, 42],
		[{ type: "array", items: { type: "integer" }, minItems: 2 }, [1, 1]],
		[{ type: "array", prefixItems: [{ type: "string" }, { type: "integer" }] }, ["text", 1]],
		[{ type: "object", additionalProperties: { type: "integer" } }, { key: 1 }],
		[{ properties: { a: { items: {} } } }, { a: [{}] }],
		[{ allOf: [{ type: "object", properties: { a: { const: 1 } } }, { type: "object", properties: { b: { const: 2 } } }] }, { a: 1, b: 2 }],
		[{ oneOf: [{ const: "x" }, {}] }, "x"],
		[{ $ref: "#/components/schemas/a~1b" }, "found"],
		[{ $ref: "#/nowhere" }, null],
		[{ $ref: "https://example.org/x" }, null],
		[{}, {}],
		[true, null],
		[undefined, null],
	]) {
		const doc = { components: { schemas: { "a/b": { const: "found" } } } };
		assert.deepEqual(plain(openapi.example(doc, schema) ?? null), want, JSON.stringify(schema));
	}
});

test("a schema within itself has an end", () => {
	const doc = { components: { schemas: { tree: { type: "object", properties: { inner: { $ref: "#/components/schemas/tree" } } }, loop: { $ref: "#/components/schemas/loop" } } } };
	let depth = 0;
	for (let v = openapi.example(doc, { $ref: "#/components/schemas/tree" }); v; v = v.inner) depth++;
	assert.ok(depth > 1 && depth < 20, String(depth));
	assert.equal(openapi.example(doc, { $ref: "#/components/schemas/loop" }), null);
});

test("a property called __proto__ is one", () => {
	const v = openapi.example({}, JSON.parse('{"properties":{"__proto__":{"const":1}}}'));
	assert.equal(JSON.stringify(v), '{"__proto__":1}');
});

test("JSON is indented with its numbers as they are", () => {
	assert.equal(openapi.indent('{"a":[1,{}],"b":12345678901234567890,"c":"x\\"{,:","d":1e400}'), '{\n  "a": [\n    1,\n    {}\n  ],\n  "b": 12345678901234567890,\n  "c": "x\\"{,:",\n  "d": 1e400\n}');
	for (const text of ["", "plain", "{", '{"a":1}}']) assert.equal(openapi.indent(text), text);
	const nested = JSON.stringify({ a: [], b: [[1, [2]], { c: { d: null } }], "e,:{": "\\" });
	assert.equal(JSON.stringify(JSON.parse(openapi.indent(nested))), nested);
});

test("a request is put together", () => {
	const operation = {
		path: "/orders/{id}/{rest}", method: "post", op: { requestBody: {} },
		parameters: [{ name: "id", in: "path" }, { name: "rest", in: "path", "x-skybus-rest": true }, { name: "q", in: "query" }, { name: "other", in: "query" }, { name: "X-A", in: "header" }],
	};
	const credential = { header: "Authorization", prefix: "Bearer ", secret: "s3cret" };
	const values = { "path.id": "a/b?$&", "path.rest": "c d/e", "query.q": "1&2", "query.other": "", "header.X-A": "v", body: "{'}", type: "application/json" };
	const r = openapi.request("http://h/base/", operation, values, credential);
	assert.equal(r.url, "http://h/base/orders/a%2Fb%3F%24%26/c%20d/e?q=1%262");
	assert.deepEqual(plain(r.init), { method: "POST", headers: { "X-A": "v", Accept: "application/json", "Content-Type": "application/json", Authorization: "Bearer s3cret" }, body: "{'}" });
	const command = openapi.curl(r, credential);
	assert.ok(!command.includes("s3cret") && command.includes(`'Authorization: Bearer '"$SECRET"`) && command.includes(`'{'\\''}'`), command);
	assert.throws(() => openapi.request("http://h", operation, {}, null), /value for id/);
	const get = openapi.request("http://h", { path: "/", method: "get", parameters: [], op: { requestBody: {} } }, { body: "x" }, null);
	assert.equal(get.init.body, undefined);
});

test("operations come by their tags", () => {
	const doc = { tags: [{ name: "b" }, { name: "a" }, { name: "empty" }], paths: { "/x": { get: { tags: ["a"] }, post: {}, parameters: [{ name: "p" }] }, "/y": { put: { tags: ["b", "a"], operationId: "y" } } } };
	assert.deepEqual(plain(openapi.operations(doc).map((t) => [t.name, t.operations.map((o) => o.id)])), [["b", ["y"]], ["a", ["get /x", "y"]], ["other", ["post /x"]]]);
	assert.equal(openapi.operations(doc)[1].operations[0].parameters.length, 1);
});

test("credentials are those a page can send", () => {
	const schemes = (s) => plain(openapi.schemes({ components: { securitySchemes: s } }).map((x) => [x.name, x.header, x.prefix]));
	assert.deepEqual(schemes({ k: { type: "apiKey", in: "header", name: "X-K" }, q: { type: "apiKey", in: "query", name: "k" }, t: { type: "http", scheme: "Bearer" }, m: { type: "mutualTLS" } }), [["k", "X-K", ""], ["t", "Authorization", "Bearer "]]);
	assert.equal(schemes({}).length, 2);
	assert.equal(openapi.schemes(null).length, 2);
});
