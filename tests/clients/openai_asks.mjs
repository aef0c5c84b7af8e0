// OpenAI's own client for Node, unchanged but for its base URL: `node openai_asks.mjs BASE_URL`.
// One process for all claims, since starting one is slow; it prints what it saw, a line for each.

import OpenAI from "openai";

const baseURL = process.argv[2];
const client = new OpenAI({ apiKey: "any", baseURL, maxRetries: 0 });
const say = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};
const person = {
  type: "json_schema",
  json_schema: {
    name: "person",
    strict: true,
    schema: {
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer" } },
      required: ["name", "age"],
      additionalProperties: false,
    },
  },
};

const asks = {
  async models() {
    const ids = [];
    for await (const each of client.models.list()) ids.push(each.id);
    return ids;
  },
  async whole() {
    const { data, response } = await client.chat.completions
      .create({ model: "gpt-4o", messages: say("one two three") })
      .withResponse();
    const [choice] = data.choices;
    return [choice.message.content, choice.finish_reason, data.usage.prompt_tokens,
      response.headers.get("x-orchestra-run-id") === data.usage.orchestra.run_id];
  },
  async streamed() {
    const stream = await client.chat.completions.create({
      model: "shout", messages: say("one two three"), stream: true,
      stream_options: { include_usage: true },
    });
    const texts = [];
    let last;
    for await (const chunk of stream) {
      const text = chunk.choices[0]?.delta.content;
      if (text) texts.push(text);
      last = chunk;
    }
    return [texts, last.usage.completion_tokens];
  },
  async tools() {
    const runner = client.chat.completions.runTools({
      model: "gpt-4o",
      messages: say("weather?"),
      tools: [{ ...weather, function: { ...weather.function, parse: JSON.parse, function: ({ city }) => `sunny in ${city}` } }],
    });
    return runner.finalContent();
  },
  async streamedTools() {
    const stream = client.chat.completions.stream({
      model: "gpt-4o", messages: say("weather?"), tools: [weather],
    });
    const { choices: [choice] } = await stream.finalChatCompletion();
    return [choice.finish_reason, choice.message.tool_calls.map((each) => each.function.arguments)];
  },
  async schema() {
    const found = await client.chat.completions.parse({
      model: "gpt-4o", messages: say("who?"), response_format: person,
    });
    return JSON.parse(found.choices[0].message.content);
  },
  async vectors() { // asked for in base64, unless told otherwise
    const model = "text-embedding-3-small";
    const usual = await client.embeddings.create({ model, input: ["a", "bcd"] });
    const numbers = await client.embeddings.create({ model, input: "bcd", encoding_format: "float" });
    return [usual.data.map((each) => [...each.embedding]), numbers.data[0].embedding];
  },
  async errors() {
    const found = [];
    for (const [model, said] of [["nobody", "hi"], ["team/gpt-4o-mini", "fail 429"], ["team/gpt-4o-mini", "fail 401"]]) {
      try {
        await client.chat.completions.create({ model, messages: say(said), stream: true });
        found.push("none");
      } catch (error) {
        found.push([error.constructor.name, error.status, error.code]);
      }
    }
    return found;
  },
  async broken() { // in the middle of a stream
    const heard = [];
    try {
      const stream = await client.chat.completions.create({
        model: "gpt-4o", messages: say("break"), stream: true,
      });
      for await (const chunk of stream) heard.push(chunk.choices[0].delta.content ?? "");
    } catch (error) {
      return [heard.join(""), error instanceof OpenAI.APIError];
    }
    return [heard.join(""), "no error"];
  },
  async left() { // the test sees at the provider that it was
    const stream = await client.chat.completions.create({
      model: "gpt-4o", messages: say("hang"), stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    return stream.controller.signal.aborted;
  },
};

for (const [claim, ask] of Object.entries(asks)) console.log(JSON.stringify([claim, await ask()]));
