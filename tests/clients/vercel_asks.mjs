// The Vercel AI SDK with its provider for what is compatible with OpenAI: as openai_asks.mjs.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  embedMany, generateText, jsonSchema, Output, readUIMessageStream, stepCountIs, streamText, tool,
} from "ai";

import { uiStream } from "./ui_stream.mjs";

const provider = createOpenAICompatible({
  name: "ours", baseURL: process.argv[2], apiKey: "any", includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider.chatModel("gpt-4o");
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
  async whole() {
    const { text, usage, finishReason } = await generateText({ model, prompt: "one two three" });
    return [text, usage.inputTokens, finishReason];
  },
  async streamed() {
    const texts = [];
    const result = streamText({ model: provider.chatModel("shout"), prompt: "one two three" });
    for await (const text of result.textStream) texts.push(text);
    return [texts, (await result.usage).outputTokens];
  },
  async tools() {
    const { text, steps } = await generateText({
      model, prompt: "weather?", tools, stopWhen: stepCountIs(3),
    });
    return [text, steps[0].toolCalls.map((each) => [each.toolName, each.input])];
  },
  async schema() {
    const { output } = await generateText({ model, prompt: "who?", output: Output.object({ schema }) });
    return output;
  },
  async vectors() {
    const { embeddings } = await embedMany({
      model: provider.embeddingModel("text-embedding-3-small"), values: ["a", "bcd"],
    });
    return embeddings;
  },
  async shown() {
    const url = `${process.argv[2]}/pipelines/followed/runs`;
    let shown;
    for await (shown of readUIMessageStream({ stream: uiStream(url, { question: "weather?" }) }));
    return shown.parts.map(({ type, text, data }) => [type, text ?? data]);
  },
  async brokenShown() {
    const url = `${process.argv[2]}/pipelines/shout/runs`;
    const seen = [];
    for (const inputs of [{ question: "break" }, {}]) {
      const stream = uiStream(url, inputs);
      for await (const _ of readUIMessageStream({ stream, onError: ({ message }) => seen.push(message) }));
    }
    return seen;
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
