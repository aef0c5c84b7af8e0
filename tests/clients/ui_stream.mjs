// Run a pipeline, for `useChat` of the Vercel AI SDK: the answer as text, what steps tell and which tools
// are called as data parts. `signal` cancels the run; a failed or cut answer is an error of the stream.
import { createUIMessageStream } from "ai";

export function uiStream(url, inputs, { headers = {}, signal } = {}) {
  return createUIMessageStream({
    onError: (error) => error.message,
    async execute({ writer }) {
      const asked = { ...headers, Accept: "text/event-stream", "Content-Type": "application/json" };
      const answer = await fetch(url, { method: "POST", body: JSON.stringify({ inputs }), headers: asked, signal });
      if (!answer.ok) {
        const { title, detail = title } = await answer.json();
        throw new Error(detail);
      }
      const id = "answer";
      writer.write({ type: "text-start", id });
      for await (const event of eventsOf(answer.body)) {
        const { type, what, call, tool, data, chunk } = event;
        if (type === "delta") writer.write({ type: "text-delta", id, delta: chunk });
        else if (type === "step.told") writer.write({ type: `data-${what}`, data });
        else if (type.startsWith("tool.")) writer.write({ type: "data-tool", id: call, data: { tool, state: type.slice(5) } });
        else if (type === "run.finished") return writer.write({ type: "text-end", id });
        else if (type === "run.failed") throw new Error(event.message);
      }
      throw new Error("the answer was cut");
    },
  });
}

async function* eventsOf(body) {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const frames = (text + piece).split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const data = frame.match(/^data: (.*)$/m); // a comment has none
      if (data) yield JSON.parse(data[1]);
    }
  }
}
