// Run a pipeline, and call `tell` with the answer so far, each time it grows, and `told(what, data)` with each
// `step.told`, such as sources; returns the result. After a broken connection, it reconnects and goes on after
// the last event; after a 503, it tries again when `Retry-After` says. `signal` is that of an AbortController:
// aborting it cancels the run, too. A refused start, or a run that fails, is a `Refused`: with its `problem`,
// and in how many seconds to try again, if known.
export async function follow(url, inputs, tell, { told, headers = {}, signal, triesMost = 8 } = {}) {
  const asked = {
    ...headers,
    Accept: "text/event-stream",
    "Content-Type": "application/json",
    // A repeated start finds the first run, so none is paid for twice. (`randomUUID` needs HTTPS.)
    "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-"),
  };
  const post = { method: "POST", body: JSON.stringify({ inputs }) };
  let output = "", tries = 0;
  for (;;) {
    let lost = new Error("the stream ended before its run"), waitS = 0;
    try {
      const answer = await fetch(url, { ...post, headers: asked, signal });
      if (!answer.ok) {
        const problem = await answer.json();
        waitS = Number(answer.headers.get("Retry-After")) || 0;
        const refused = new Refused(problem, waitS || null);
        throw answer.status === 503 ? new Error(refused.message) : refused;
      }
      for await (const { id, type, data } of eventsOf(answer.body)) {
        asked["Last-Event-ID"] = id;
        tries = 0;
        if (type === "delta") tell((output += data.chunk));
        else if (type === "step.told") told?.(data.what, data.data);
        else if (type === "arm.restarted") tell((output = ""));
        else if (type === "snapshot") tell((output = data.output));
        else if (type === "run.finished") return data.result;
        else if (type === "run.failed") throw new Refused(data.problem, data.retry_after_s);
        else if (type === "run.cancelled") throw new Refused({ title: data.reason });
      }
    } catch (error) {
      if (error instanceof Refused) throw error;
      lost = error;
    }
    if (signal?.aborted) {
      asked["Last-Event-ID"] ??= "0"; // with this header, the key finds its run, and never starts one
      const found = await fetch(url, { ...post, headers: { ...asked, Prefer: "respond-async" } });
      const { id } = await found.json();
      if (id) await fetch(url.replace(/pipelines\/.*/, `runs/${id}`), { method: "DELETE", headers });
      throw signal.reason;
    }
    if (++tries === triesMost) throw lost;
    await new Promise((resolve) => {
      setTimeout(resolve, Math.max(1000 * waitS, 50 * 2 ** tries));
      signal?.addEventListener("abort", resolve, { once: true });
    });
  }
}

export class Refused extends Error {
  constructor(problem, retryAfterS = null) {
    super(problem.detail ?? problem.title);
    Object.assign(this, { problem, retryAfterS });
  }
}

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
