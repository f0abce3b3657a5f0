// Uses the page of a gateway as a person would: node page.js <URL of the gateway> <API key>. Prints what it saw, as JSON.
import { JSDOM, VirtualConsole } from "jsdom";

const [gateway, key] = process.argv.slice(2);
const faults = [];

// open loads the page with its scripts, from the gateway itself.
async function open(hash = "") {
	const virtualConsole = new VirtualConsole();
	virtualConsole.on("jsdomError", (e) => faults.push(String(e)));
	virtualConsole.on("error", (e) => faults.push(String(e)));
	const dom = await JSDOM.fromURL(gateway + "/v1/docs" + hash, {
		runScripts: "dangerously",
		resources: "usable",
		pretendToBeVisual: true,
		virtualConsole,
		beforeParse(window) {
			// What a DOM without a network lacks.
			window.fetch = (url, init) => fetch(new URL(url, window.location.href), { ...init, credentials: undefined });
			window.AbortController = AbortController;
			window.TextDecoder = TextDecoder;
			window.Element.prototype.scrollIntoView = () => {};
		},
	});
	return dom.window;
}

// until waits for what a page does in its own time.
async function until(what, condition) {
	for (let i = 0; i < 1000; i++) {
		const v = condition();
		if (v) return v;
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
	throw new Error("waited for " + what);
}

// openOperation opens one as a click would.
async function openOperation(window, id) {
	const op = window.document.getElementById("op-" + id);
	op.open = true;
	op.dispatchEvent(new window.Event("toggle"));
	return until("the form of " + id, () => op.querySelector("form") && op);
}

// send fills in the fields by name, sends, and tells what is shown then.
async function send(window, op, fields) {
	const form = op.querySelector("form");
	for (const [name, v] of Object.entries(fields)) form.elements.namedItem(name).value = v;
	form.requestSubmit();
	await until("the answer", () => !form.querySelector("button").disabled);
	const text = (selector) => op.querySelector(".answer " + selector)?.textContent ?? "";
	return { status: text("p"), headers: text(".headers"), body: text(".result"), curl: text(".curl") };
}

const out = {};
let window = await open();
const document = window.document;
const byId = (id) => document.getElementById(id);

// Without a credential nothing is told; with a wrong one neither.
await until("the refusal", () => byId("state").textContent.startsWith("401"));
out.refused = byId("state").textContent;
byId("scheme").value = [...byId("scheme").options].find((o) => o.textContent === "API key").value;
byId("secret").value = key;
byId("credential").requestSubmit();
await until("the operations", () => document.querySelector(".op"));
out.title = document.title;
out.state = byId("state").textContent;
out.tags = [...document.querySelectorAll("section.tag h2")].map((e) => e.textContent);
out.paths = [...document.querySelectorAll(".op .path")].map((e) => e.textContent);
out.secretShown = byId("secret").value + document.documentElement.outerHTML.includes(key);

const op = await openOperation(window, "call.greeter.hello");
out.example = op.querySelector("textarea").value;
out.schema = [...op.querySelectorAll(".schema code")].map((e) => e.textContent);
out.description = op.querySelector(".text").textContent;
out.markup = document.querySelectorAll("b, img").length;
out.good = await send(window, op, { body: '{"name":"Ann","number":9007199254740993}' });
out.chosen = await send(window, op, { body: "{}", "query.version": "1.2.3" });
out.bad = await send(window, op, { body: '{"name":7}' });
out.broken = await send(window, op, { body: "{" });

// The keyboard: / goes to the filter, Ctrl+Enter sends.
document.body.dispatchEvent(new window.KeyboardEvent("keydown", { key: "/", bubbles: true }));
out.focus = document.activeElement.id;
byId("filter").value = "greeter hello";
byId("filter").dispatchEvent(new window.Event("input"));
out.filtered = [...document.querySelectorAll(".op")].filter((e) => !e.hidden && !e.closest("section").hidden).map((e) => e.id);
const area = op.querySelector("textarea");
area.value = '{"name":"Key"}';
area.dispatchEvent(new window.KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true }));
await until("the answer to Ctrl+Enter", () => op.querySelector(".result")?.textContent.includes("Key"));

byId("forget").click();
out.forgotten = await send(window, op, { body: "{}" });
out.stored = window.localStorage.length + window.sessionStorage.length + document.cookie.length;

// A page that was opened anew knows no credential.
window.close();
window = await open("#op-call.greeter.hello");
await until("the refusal of another page", () => window.document.getElementById("state").textContent.startsWith("401"));
window.close();
out.faults = faults;
console.log(JSON.stringify(out));
