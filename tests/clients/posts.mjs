// Streams that are posted for, over a line that breaks behind the first chunk: `node posts.mjs URL`
// prints "cut" when it does, and then what the client has read: the text, and the events' types.
// In the end it stops a run at its first chunk.

import { connect, createServer } from "node:net";
import { createRequire } from "node:module";
import { follow } from "./answers.mjs";

const target = new URL(process.argv[2]);
const tell = (...said) => console.log(JSON.stringify(said));
let whole = false;
const line = createServer((client) => {
  const server = connect(target.port, target.hostname);
  const cuts = !whole;
  const end = () => [client, server].forEach((each) => each.destroy());
  server.on("data", (data) =>
    client.write(data, () => {
      if (!cuts || !data.includes('"chunk":"one"')) return;
      whole = true;
      end();
      tell("cut");
    }),
  );
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

const stop = new AbortController();
const stopped = follow(url, {}, () => stop.abort(), { signal: stop.signal });
tell("stopped", await stopped.catch((error) => error.name));
line.close();
process.exit(0);
