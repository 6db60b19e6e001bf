import assert from "node:assert/strict";
import { type AnswerUsage, UsageReader } from "../../src/network/usage_reader.ts";
import { Random } from "../support/random.ts";

function read(text: string, pieceLength = text.length): AnswerUsage | undefined {
  const reader = new UsageReader();
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += pieceLength) reader.push(bytes.subarray(at, at + pieceLength));
  return reader.end();
}

const sse = (...events: unknown[]): string =>
  events.map((event) => `event: x\ndata: ${JSON.stringify(event)}\n\n`).join("");

const RESPONSES = sse({ type: "response.created", response: { usage: null } }, {
  type: "response.completed",
  response: {
    model: "gpt-6-sol-2026-09-22",
    usage: {
      input_tokens: 100,
      input_tokens_details: { cached_tokens: 40, cache_write_tokens: 30 },
      output_tokens: 20,
    },
  },
});
const MESSAGES = sse(
  {
    type: "message_start",
    message: {
      model: "claude-opus-5-5",
      usage: {
        input_tokens: 10,
        cache_creation_input_tokens: 5,
        cache_creation: { ephemeral_5m_input_tokens: 1, ephemeral_1h_input_tokens: 4 },
        cache_read_input_tokens: 300,
        output_tokens: 1,
      },
    },
  },
  { type: "message_delta", usage: { output_tokens: 25 } },
);
const CHAT = sse({ model: "local", choices: [], usage: { prompt_tokens: 7, completion_tokens: 3 } }) +
  "data: [DONE]\n\n";

Deno.test("UsageReader reads all three protocols, whatever pieces they come in", () => {
  for (const length of [1, 7, 10_000]) {
    assert.deepEqual(read(RESPONSES, length), {
      inputTokens: 100,
      cachedTokens: 40,
      cacheWriteTokens: 30,
      cacheWriteHourTokens: 0,
      outputTokens: 20,
      model: "gpt-6-sol-2026-09-22",
    });
    assert.deepEqual(read(MESSAGES, length), {
      inputTokens: 315,
      cachedTokens: 300,
      cacheWriteTokens: 5,
      cacheWriteHourTokens: 4,
      outputTokens: 25,
      model: "claude-opus-5-5",
    });
    assert.deepEqual(read(CHAT, length), {
      inputTokens: 7,
      cachedTokens: 0,
      cacheWriteTokens: 0,
      cacheWriteHourTokens: 0,
      outputTokens: 3,
      model: "local",
    });
  }
  const plain = JSON.stringify({ content: [], usage: { input_tokens: 4, output_tokens: 2 } });
  assert.equal(read(plain)?.inputTokens, 4);
  assert.equal(read(plain)?.outputTokens, 2);
});

Deno.test("UsageReader takes nothing that is no count, and survives anything", () => {
  assert.equal(read(sse({ usage: { input_tokens: -5, output_tokens: "9", prompt_tokens: 1.5 } })), undefined);
  assert.equal(read('data: {"usage": '), undefined);
  assert.equal(read(""), undefined);
  const random = new Random(3);
  for (let round = 0; round < 200; round++) {
    const reader = new UsageReader();
    const bytes = new TextEncoder().encode(RESPONSES);
    for (let flips = random.below(20); flips >= 0; flips--) {
      bytes[random.below(bytes.length)] = random.below(256);
    }
    reader.push(bytes);
    const usage = reader.end();
    assert.ok(usage === undefined || Object.values({ ...usage, model: 0 }).every(Number.isSafeInteger));
  }
});
