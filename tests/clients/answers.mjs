// The answer of a run as it grows. A line that breaks costs nothing: the run goes on, and is followed
// from behind the last event that came. `tell` is called with all of the answer so far. `signal` is
// that of an AbortController: it cancels the run, too.
export async function follow(url, inputs, tell, { headers = {}, signal, triesMost = 8 } = {}) {
  const asked = {
    ...headers,
    Accept: "text/event-stream",
    "Content-Type": "application/json",
    "Idempotency-Key": crypto.randomUUID(), // so that not even a start that broke is paid for twice
  };
  let output = "", tries = 0;
  for (;;) {
    let lost = new Error("the stream ended before its run");
    try {
      const body = JSON.stringify({ inputs });
      const answer = await fetch(url, { method: "POST", headers: asked, body, signal });
      if (!answer.ok) throw new Refused((await answer.json()).detail);
      for await (const { id, type, data } of eventsOf(answer.body)) {
        asked["Last-Event-ID"] = id;
        tries = 0;
        if (type === "delta") tell((output += data.chunk));
        else if (type === "arm.restarted") tell((output = ""));
        else if (type === "snapshot") tell((output = data.output));
        else if (type === "run.finished") return data.result;
        else if (type === "run.failed") throw new Refused(data.message);
        else if (type === "run.cancelled") throw new Refused(data.reason);
      }
    } catch (error) {
      if (error instanceof Refused) throw error;
      lost = error;
    }
    if (signal?.aborted) {
      const run = asked["Last-Event-ID"]?.split(".")[0]; // without one, `linger_s` ends it
      if (run) await fetch(url.replace(/pipelines\/.*/, `runs/${run}`), { method: "DELETE", headers });
      throw signal.reason;
    }
    if (++tries === triesMost) throw lost;
    await new Promise((resolve) => setTimeout(resolve, 50 * 2 ** tries));
  }
}

export class Refused extends Error {}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let got = await reader.read(); !got.done; got = await reader.read()) {
    const frames = (text + got.value).split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const field = (name) => frame.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
      yield { id: field("id"), type: field("event"), data: JSON.parse(field("data")) };
    }
  }
}
