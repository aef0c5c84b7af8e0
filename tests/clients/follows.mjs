// npm's EventSource: `node follows.mjs URL` prints each event as it comes, and each connection,
// until the server has nothing more.

import { EventSource } from "eventsource";

const alive = setInterval(() => {}, 1000); // its wait for the next connection keeps no process
const source = new EventSource(process.argv[2]);
const tell = (...said) => console.log(JSON.stringify(said));
source.onopen = () => tell("open");
source.onerror = ({ code }) => {
  if (source.readyState !== EventSource.CLOSED) return;
  tell("closed", code);
  clearInterval(alive);
};
for (const type of ["run.started", "delta", "snapshot", "run.finished", "run.failed", "run.cancelled"])
  source.addEventListener(type, ({ lastEventId, data }) => tell(type, lastEventId, JSON.parse(data).chunk));
