import assert from "node:assert/strict";
import { parseVmmEvent, VmmProtocolError } from "../../src/session/vmm_events.ts";

Deno.test("parseVmmEvent() reads every event of the protocol", () => {
  assert.deepEqual(parseVmmEvent('{"type":"hello","pid":7}'), { type: "hello", pid: 7 });
  assert.deepEqual(parseVmmEvent('{"type":"console","data":"aGk="}'), { type: "console", data: "aGk=" });
  assert.deepEqual(parseVmmEvent('{"type":"paused","pauseMs":1.5}'), { type: "paused", pauseMs: 1.5 });
  const timings = { processStartMs: 1, kvmReadyMs: 2, kernelLoadedMs: 3, firstInstructionMs: 4 };
  for (
    const event of [{ type: "started", timings }, { type: "booted", timings: { ...timings, readyMs: 6 } }]
  ) {
    assert.deepEqual(parseVmmEvent(JSON.stringify(event)), event);
  }
  assert.deepEqual(parseVmmEvent('{"type":"resumed"}'), { type: "resumed" });
  const refused = { type: "vsock_refused", cid: 4, port: 1024 };
  assert.deepEqual(parseVmmEvent(JSON.stringify(refused)), refused);
  const stopped = { type: "stopped", reason: "poweroff", exits: { io: 3 } };
  assert.deepEqual(parseVmmEvent(JSON.stringify(stopped)), stopped);
  const failed = { type: "failed", code: "kvm", message: "no" };
  assert.deepEqual(parseVmmEvent(JSON.stringify(failed)), failed);
});

Deno.test("parseVmmEvent() rejects what is not an event", () => {
  const lines = [
    "",
    "garbage",
    "null",
    "[]",
    "7",
    "{}",
    '{"type":"__proto__"}',
    '{"type":"hello","pid":"7"}',
    '{"type":"console","data":7}',
    '{"type":"vsock_refused","cid":"4","port":1}',
    '{"type":"stopped","reason":"won","exits":{}}',
    '{"type":"stopped","reason":"reset","exits":{"io":"many"}}',
    '{"type":"failed","code":"fine","message":""}',
    '{"type":"started","timings":{}}',
  ];
  for (const line of lines) assert.throws(() => parseVmmEvent(line), VmmProtocolError, line);
});
