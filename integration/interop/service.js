// Runs a service of ADR-32 at the server whose URL is the first argument, under the name that is the second, until its
// standard input is closed. It knows nothing of skybus.
import { connect } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const [url, name] = process.argv.slice(2);
const nc = await connect({ servers: url });
const service = await new Svcm(nc).add({ name, version: "2.1.0", description: "shouts", metadata: { language: "JavaScript" } });
service.addEndpoint("shout", {
  subject: `${name}.shout`,
  handler: (_, msg) => {
    const { word } = msg.json();
    if (!word) {
      msg.respondError(400, "there is no word");
      return;
    }
    msg.respond(JSON.stringify({ word: word.toUpperCase() + "!" }));
  },
});
await nc.flush();
console.log("ready", service.info().id);
process.stdin.resume();
process.stdin.on("end", async () => {
  await service.stop();
  await nc.drain();
});
