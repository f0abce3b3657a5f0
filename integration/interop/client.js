// Looks at the services behind the server whose URL is the first argument, calls one of them, and prints what it saw as
// JSON. The second argument is the name of the service, the third the subject of its endpoint.
import { connect } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const [url, name, subject] = process.argv.slice(2);
const nc = await connect({ servers: url });
const services = new Svcm(nc).client({ strategy: "stall", maxWait: 5000 });

const all = async (answers) => {
  const list = [];
  for await (const a of await answers) {
    list.push(a);
  }
  return list;
};
const call = async (body) => {
  const reply = await nc.request(subject, body, { timeout: 5000 });
  const error = reply.headers?.get("Nats-Service-Error");
  if (error) {
    const code = reply.headers.get("Nats-Service-Error-Code");
    return { error, status: Number(code), code: reply.headers.get("Skybus-Error-Code") };
  }
  return { answer: reply.json(), contentType: reply.headers?.get("Content-Type") };
};

const seen = {
  ping: await all(services.ping()),
  good: await call(JSON.stringify({ name: "Node" })),
  bad: await call(JSON.stringify({ name: "" })),
  broken: await call("{"),
};
seen.info = await all(services.info(name));
seen.stats = await all(services.stats(name));
console.log(JSON.stringify(seen));
await nc.close();
