// Streams that are posted for, over a line that breaks behind the first chunk: `node posts.mjs URL`
// prints "cut" when it does, and then what the client has read: the text, and the events' types.
// Then it asks a server that restarts, stops a run at its first chunk, and one before its first event;
// and a run fails.

import { connect, createServer } from "node:net";
import { createRequire } from "node:module";
import { follow } from "./answers.mjs";

const target = new URL(process.argv[2]);
const tell = (...said) => console.log(JSON.stringify(said));
let whole = false;
let silent; // what is called in place of the first answer
const line = createServer((client) => {
  const server = connect(target.port, target.hostname);
  const cuts = !whole;
  const end = () => [client, server].forEach((each) => each.destroy());
  server.on("data", (data) => {
    if (silent && data.includes("HTTP/1.1 ")) { // and not the end of the answer before
      const instead = silent;
      silent = undefined;
      return instead(client);
    }
    client.write(data, () => {
      if (!cuts || !data.includes('"chunk":"one"')) return;
      whole = true;
      end();
      tell("cut");
    });
  });
  client.on("data", (data) => server.write(data));
  for (const each of [client, server]) each.on("error", () => {}).on("close", end);
});
await new Promise((resolve) => line.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${line.address().port}${target.pathname}`;

// A page's: it has a window and a document, and no module that Node could read as one.
globalThis.window = { fetch, setTimeout, clearTimeout };
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = createRequire(import.meta.url)("@microsoft/fetch-event-source");

for (const key of [undefined, "once"]) {
  const types = [];
  let text = "";
  whole = false;
  await fetchEventSource(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...(key && { "idempotency-key": key }) },
    body: "{}",
    onmessage({ event, data }) {
      types.push(event);
      if (event === "delta") text += JSON.parse(data).chunk;
    },
    onerror: () => 50,
  });
  tell("read", text, types);
}

whole = false;
const grown = [];
const result = await follow(url, {}, (text) => grown.push(text));
tell("read", result, grown);

const asked = performance.now();
const restarting = '{"title": "No worker of this server is ready."}';
const head = `HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: ${restarting.length}\r\n`;
silent = (client) => client.end(`${head}Connection: close\r\n\r\n${restarting}`);
const answered = await follow(url, {}, () => {});
tell("answered", answered, performance.now() - asked > 990);

const stop = new AbortController();
const stopped = follow(url, {}, () => stop.abort(), { signal: stop.signal });
tell("stopped", await stopped.catch((error) => error.name));

const early = new AbortController();
silent = () => early.abort();
const begun = follow(url, {}, () => {}, { signal: early.signal });
tell("stopped", await begun.catch((error) => error.name));

const told = (what, data) => tell("told", what, data);
const failed = await follow(url.replace("awaiting", "failing"), {}, () => {}, { told }).catch((error) => error);
tell("failed", failed.problem.type, failed.message, failed.retryAfterS);
line.close();
process.exit(0);
