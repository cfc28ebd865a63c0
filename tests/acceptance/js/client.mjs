// The official JavaScript client, unmodified: node client.mjs PACKAGE URL OTHER_URL
// Each check throws when it does not hold; prints its name, and `ok` at the end.
import assert from "node:assert/strict";

const [name, url, other] = process.argv.slice(2);
const { default: OpenAI } = await import(name);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const replica = new OpenAI({ baseURL: `${other}/v1`, apiKey: "none", maxRetries: 0 });
const ask = { model: "assistant", input: "hi" };
const ANSWER = "one two three";
const DELTA = "response.output_text.delta";

async function poll(id) {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (!["queued", "in_progress"].includes(response.status)) return response;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const textOf = (events) =>
  events.filter((event) => event.type === DELTA).map((event) => event.delta).join("");

const checks = {
  async "a background response is polled to its answer"() {
    const created = await client.responses.create({ ...ask, background: true, metadata: { a: "b" } });
    assert.ok(["queued", "in_progress"].includes(created.status));
    const response = await poll(created.id);
    assert.equal(response.output_text, ANSWER);
    assert.deepEqual(response.metadata, { a: "b" });
    assert.ok(response.usage.total_tokens > 0);
    const cancelled = await client.responses.cancel(created.id);
    assert.equal(cancelled.status, "completed");
  },

  async "a plain request waits for its answer"() {
    assert.equal((await client.responses.create(ask)).output_text, ANSWER);
  },

  async "a stream holds the stored answer, and the helper gives it"() {
    const events = await all(await client.responses.create({ ...ask, stream: true }));
    assert.equal(textOf(events), ANSWER);
    assert.equal(events.at(-1).type, "response.completed");
    const helped = await client.responses.stream(ask).finalResponse();
    assert.equal(helped.output_text, ANSWER);
  },

  async "a stream that was cut goes on at any number on another replica"() {
    const stream = await client.responses.create({ ...ask, background: true, stream: true });
    let first;
    for await (const event of stream) {
      first = event;
      break; // closes the connection
    }
    const id = first.response.id;
    const resume = async (after) =>
      all(await replica.responses.retrieve(id, { stream: true, starting_after: after }));
    const events = [first, ...(await resume(first.sequence_number))];
    const numbers = events.map((event) => event.sequence_number);
    assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
    assert.equal(textOf(events), ANSWER);
    assert.equal(events.at(-1).response.output[0].content[0].text, ANSWER);
    for (const [place, event] of events.entries())
      assert.deepEqual(await resume(event.sequence_number), events.slice(place + 1));
  },

  async "a cancel is final, and again harmless"() {
    const created = await client.responses.create({ ...ask, input: "hang", background: true });
    await client.responses.cancel(created.id);
    assert.equal((await poll(created.id)).status, "cancelled");
    assert.equal((await client.responses.cancel(created.id)).status, "cancelled");
    const events = await all(await replica.responses.retrieve(created.id, { stream: true }));
    assert.equal(events.at(-1).response.status, "cancelled");
    const done = await client.responses.create(ask);
    await assert.rejects(client.responses.cancel(done.id), OpenAI.BadRequestError);
  },

  async "functions of the client make the round trip"() {
    const tools = [{ type: "function", name: "add", parameters: { type: "object", properties: {} }, strict: false }];
    const first = await client.responses.create({ ...ask, input: "1+1?", tools });
    const call = first.output.at(-1);
    assert.deepEqual([call.type, call.name, JSON.parse(call.arguments)], ["function_call", "add", { a: 1 }]);
    const second = await client.responses.create({
      ...ask,
      tools,
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id: call.call_id, output: "2" }],
    });
    assert.equal(second.output_text, "It is 2.");
  },

  async "a conversation is continued, paged, changed and deleted"() {
    const conversation = await client.conversations.create({ metadata: { a: "b" } });
    for (const input of ["hi", "again"])
      await client.responses.create({ ...ask, input, conversation: conversation.id });
    for (const order of ["asc", "desc"]) {
      const roles = [];
      const pages = client.conversations.items.list(conversation.id, { limit: 1, order });
      for await (const item of pages) roles.push(item.role);
      const expected = ["user", "assistant", "user", "assistant"];
      assert.deepEqual(roles, order === "asc" ? expected : expected.reverse());
    }
    const changed = await client.conversations.update(conversation.id, { metadata: { a: "c" } });
    assert.deepEqual(changed.metadata, { a: "c" });
    const added = await client.conversations.items.create(conversation.id, {
      items: [{ type: "message", role: "user", content: "by hand" }],
    });
    const item = await client.conversations.items.retrieve(added.data[0].id, { conversation_id: conversation.id });
    assert.equal(item.content[0].text, "by hand");
    assert.ok((await client.conversations.delete(conversation.id)).deleted);
    await assert.rejects(client.conversations.retrieve(conversation.id), OpenAI.NotFoundError);
  },

  async "what a response was asked with is listed, and a deleted one is gone"() {
    const response = await client.responses.create(ask);
    const items = await all(client.responses.inputItems.list(response.id));
    assert.equal(items[0].content[0].text, "hi");
    await client.responses.delete(response.id);
    await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
  },

  async "errors are those of the client's own classes"() {
    await assert.rejects(client.responses.retrieve("resp_unknown"), OpenAI.NotFoundError);
    await assert.rejects(
      client.responses.create({ ...ask, model: "nobody" }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && error.param === "model",
    );
    await assert.rejects(
      client.responses.create({ ...ask, previous_response_id: "resp_unknown" }),
      (error) => error.status === 400 && error.code === "previous_response_not_found",
    );
    await assert.rejects(client.responses.create({ model: "assistant", input: [] }), OpenAI.BadRequestError);
    await assert.rejects(client.responses.create({ ...ask, store: false, background: true }), OpenAI.BadRequestError);
    await assert.rejects(client.models.retrieve("nobody"), OpenAI.NotFoundError);
    const failed = await client.responses.create({ ...ask, input: "fail", background: true });
    const response = await poll(failed.id);
    assert.equal(response.status, "failed");
    assert.equal(response.error.code, "server_error");
  },

  async "models are agents"() {
    const names = (await all(client.models.list())).map((model) => model.id);
    assert.deepEqual(names, ["assistant", "forecaster"]);
    assert.equal((await client.models.retrieve("assistant")).object, "model");
  },

  async "a chat completion answers whole and in pieces"() {
    const messages = [{ role: "user", content: "hi" }];
    const whole = await client.chat.completions.create({ model: "assistant", messages });
    assert.equal(whole.choices[0].message.content, ANSWER);
    const chunks = await all(await client.chat.completions.create({ model: "assistant", messages, stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), ANSWER);
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  },
};

for (const [name, check] of Object.entries(checks)) {
  console.log(name);
  await check();
}
console.log("ok");
