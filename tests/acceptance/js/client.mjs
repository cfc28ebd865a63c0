// The official JavaScript client, unmodified: node client.mjs URL OTHER_URL
// Each check throws when it does not hold; prints `ok` at the end.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, other] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const replica = new OpenAI({ baseURL: `${other}/v1`, apiKey: "none", maxRetries: 0 });
const ask = { model: "assistant", input: "hi" };

async function poll(id) {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (!["queued", "in_progress"].includes(response.status)) return response;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const created = await client.responses.create({ ...ask, background: true });
assert.ok(["queued", "in_progress"].includes(created.status));
assert.equal((await poll(created.id)).output_text, "one two three");

const stream = await client.responses.create({ ...ask, background: true, stream: true });
let first;
for await (const event of stream) {
  first = event;
  break; // closes the connection
}
const seen = [first];
const rest = await replica.responses.retrieve(first.response.id, {
  stream: true,
  starting_after: first.sequence_number,
});
for await (const event of rest) seen.push(event);
const numbers = seen.map((event) => event.sequence_number);
assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
const text = seen
  .filter((event) => event.type === "response.output_text.delta")
  .map((event) => event.delta)
  .join("");
assert.equal(text, "one two three");
assert.equal(seen.at(-1).type, "response.completed");

const cancelled = await client.responses.cancel(created.id);
assert.equal(cancelled.status, "completed");

const conversation = await client.conversations.create({ metadata: { a: "b" } });
await client.responses.create({ ...ask, conversation: conversation.id });
const items = [];
const page = client.conversations.items.list(conversation.id, { limit: 1, order: "asc" });
for await (const item of page) items.push(item);
assert.deepEqual(items.map((item) => item.role), ["user", "assistant"]);

await assert.rejects(client.responses.retrieve("resp_unknown"), OpenAI.NotFoundError);
await assert.rejects(
  client.responses.create({ ...ask, model: "nobody" }),
  (error) => error.code === "model_not_found",
);
const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ["assistant", "forecaster"]);
const chat = await client.chat.completions.create({
  model: "assistant",
  messages: [{ role: "user", content: "hi" }],
});
assert.equal(chat.choices[0].message.content, "one two three");
console.log("ok");
