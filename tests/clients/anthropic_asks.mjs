// Anthropic's own client for Node, and the Vercel AI SDK with its provider for Anthropic.

import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";

const client = new Anthropic({
  baseURL: process.argv[2].replace(/\/v1$/, ""), apiKey: "any", maxRetries: 0,
});
const provider = createAnthropic({ baseURL: process.argv[2], apiKey: "any" });
const model = provider("gpt-4o");
const schema = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
});
const parameters = {
  type: "object", properties: { city: { type: "string" } }, required: ["city"],
};
const tools = {
  weather: tool({
    inputSchema: jsonSchema(parameters), execute: async ({ city }) => `sunny in ${city}`,
  }),
};
const question = (content) => ({
  model: "gpt-4o", max_tokens: 99, messages: [{ role: "user", content }],
});

const asks = {
  async node() {
    const whole = await client.messages.create(question("one two three"));
    return [whole.content[0].text, whole.stop_reason, whole.usage.input_tokens];
  },
  async nodeStreamed() {
    const texts = [];
    const stream = client.messages.stream(question("one two three"));
    stream.on("text", (text) => texts.push(text));
    return [texts, (await stream.finalMessage()).usage.output_tokens];
  },
  async nodeTools() {
    const weather = { name: "weather", input_schema: parameters };
    const stream = client.messages.stream({ ...question("weather?"), tools: [weather] });
    const { content, stop_reason } = await stream.finalMessage();
    return [content[0].name, content[0].input, stop_reason];
  },
  async nodeToolRunner() { // it asks for a thread by itself, and goes on without
    const weather = {
      type: "custom", name: "weather", input_schema: parameters,
      run: ({ city }) => `sunny in ${city}`, parse: (input) => input,
    };
    const { content } = await client.beta.messages.toolRunner({
      ...question("weather?"), tools: [weather],
    });
    return content[0].text;
  },
  async nodeErrors() {
    const seen = [];
    for (const [text, named] of [["fail 429", "gpt-4o"], ["Hi", "nobody"], ["break", "gpt-4o"]]) {
      try {
        await client.messages.stream({ ...question(text), model: named }).finalMessage();
      } catch (error) {
        seen.push([error.constructor.name, error.error?.error?.type]);
      }
    }
    return seen;
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
  async tools() {
    const { text, steps } = await generateText({
      model, prompt: "weather?", tools, stopWhen: stepCountIs(3),
    });
    return [text, steps[0].toolCalls.map((each) => [each.toolName, each.input])];
  },
  async streamedTools() {
    const result = streamText({ model, prompt: "weather?", tools, stopWhen: stepCountIs(3) });
    return result.text;
  },
  async schema() {
    const providerOptions = { anthropic: { structuredOutputMode: "outputFormat" } };
    const { output } = await generateText({
      model, prompt: "who?", output: Output.object({ schema }), providerOptions,
    });
    return output;
  },
  async broken() {
    const seen = [];
    const result = streamText({
      model, prompt: "break", onError: ({ error }) => seen.push(`${error.message ?? error}`),
    });
    let text = "";
    for await (const each of result.textStream) text += each;
    return [text, seen.length > 0];
  },
};

for (const [claim, ask] of Object.entries(asks)) console.log(JSON.stringify([claim, await ask()]));
process.exit(0);
