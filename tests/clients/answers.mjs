// The answer of a run as it grows. A line that breaks costs nothing: the run goes on, and is followed
// from behind the last event that came. A server that restarts, or has too much to do, is asked again
// when it says. `tell` is called with all of the answer so far. `signal` is that of an AbortController:
// it cancels the run, too.
export async function follow(url, inputs, tell, { headers = {}, signal, triesMost = 8 } = {}) {
  const asked = {
    ...headers,
    Accept: "text/event-stream",
    "Content-Type": "application/json",
    // So that not even a start that broke is paid for twice. (`randomUUID` is not there over plain HTTP.)
    "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-"),
  };
  const post = { method: "POST", body: JSON.stringify({ inputs }) };
  let output = "", tries = 0;
  for (;;) {
    let lost = new Error("the stream ended before its run"), waitS = 0;
    try {
      const answer = await fetch(url, { ...post, headers: asked, signal });
      if (!answer.ok) {
        const { title, detail = title } = await answer.json();
        if (answer.status !== 503) throw new Refused(detail);
        waitS = Number(answer.headers.get("Retry-After")) || 0;
        throw new Error(detail);
      }
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
      asked["Last-Event-ID"] ??= "0"; // with one, the key finds its run, and starts none
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
