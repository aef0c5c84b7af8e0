// What asks the responses API by itself: OpenAI's own client for Node, and the Vercel AI SDK with
// OpenAI's provider, as its documentation has it. As openai_asks.mjs.

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

const baseURL = process.argv[2];
const client = new OpenAI({ apiKey: "any", baseURL, maxRetries: 0 });
const provider = createOpenAI({ baseURL, apiKey: "any" });
const model = provider("gpt-4o");
const schema = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
});
const tools = {
  weather: tool({
    inputSchema: jsonSchema({
      type: "object", properties: { city: { type: "string" } }, required: ["city"],
    }),
    execute: async ({ city }) => `sunny in ${city}`,
  }),
};

const asks = {
  async node() {
    const whole = await client.responses.create({ model: "shout", input: "one two three" });
    const stream = client.responses.stream({ model: "gpt-4o", input: "one two three" });
    const pieces = [];
    stream.on("response.output_text.delta", ({ delta }) => pieces.push(delta));
    const last = await stream.finalResponse();
    const next = await client.responses.create({
      model: "gpt-4o", input: "four", previous_response_id: last.id,
    });
    return [whole.output_text, pieces, last.output_text, next.output_text];
  },
  async nodeBroken() {
    try {
      for await (const _ of await client.responses.create({ model: "gpt-4o", input: "break", stream: true }));
    } catch (error) {
      return error.constructor.name;
    }
  },
  async whole() {
    const { text, usage, finishReason } = await generateText({ model, prompt: "one two three" });
    return [text, usage.inputTokens, finishReason];
  },
  async streamed() {
    const texts = [];
    const result = streamText({ model: provider("shout"), prompt: "one two three" });
    for await (const text of result.textStream) texts.push(text);
    return [texts, (await result.usage).outputTokens];
  },
  async tools() { // its second step names the items of its first
    const { text, steps } = await generateText({
      model, prompt: "weather?", tools, stopWhen: stepCountIs(3),
    });
    return [text, steps[0].toolCalls.map((each) => [each.toolName, each.input])];
  },
  async streamedTools() {
    const result = streamText({ model, prompt: "weather?", tools, stopWhen: stepCountIs(3) });
    let text = "";
    for await (const each of result.textStream) text += each;
    return text;
  },
  async schema() {
    const { output } = await generateText({ model, prompt: "who?", output: Output.object({ schema }) });
    return output;
  },
  async broken() {
    const seen = [];
    const result = streamText({ model, prompt: "break", onError: ({ error }) => seen.push(`${error.message ?? error}`) });
    let text = "";
    for await (const each of result.textStream) text += each;
    return [text, seen.length > 0];
  },
};

for (const [claim, ask] of Object.entries(asks)) console.log(JSON.stringify([claim, await ask()]));
process.exit(0);
