import { equal } from "node:assert/strict";
import { EventFd } from "../../src/ffi/event_fd.ts";
import { answerRegisterCall, closeRegisterCalls, RegisterCaller } from "../../src/machine/register_call.ts";
import { callWords, SHARED_BYTES } from "../../src/machine/worker_protocol.ts";

Deno.test("a register call ends at once when its io thread is gone, and reads 0", () => {
  const shared = new SharedArrayBuffer(SHARED_BYTES);
  using kick = new EventFd();
  closeRegisterCalls(callWords(shared, 0));
  const caller = new RegisterCaller(callWords(shared, 0), kick.fd, 0x1000);
  equal(caller.read(4, 4), 0);
  caller.write(4, 4, 7);
  equal(kick.drain(), false);
});

Deno.test("a register call that waits ends when its io thread goes", async () => {
  const shared = new SharedArrayBuffer(SHARED_BYTES);
  using kick = new EventFd();
  const module = new URL("../../src/machine/register_call.ts", import.meta.url).href;
  const words = new URL("../../src/machine/worker_protocol.ts", import.meta.url).href;
  const code = `import { RegisterCaller } from "${module}"; import { callWords } from "${words}";
    self.onmessage = ({ data }) => {
      postMessage(new RegisterCaller(callWords(data.shared, 3), data.fd, 0).read(8, 4));
    };`;
  const worker = new Worker(`data:application/javascript,${encodeURIComponent(code)}`, { type: "module" });
  const answer = new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
  worker.postMessage({ shared, fd: kick.fd });
  while (!kick.drain()) await new Promise((resolve) => setTimeout(resolve, 1));
  closeRegisterCalls(callWords(shared, 3));
  equal(await answer, 0);
  worker.terminate();
});

Deno.test("a register call is answered from the bus, once", () => {
  const words = callWords(new SharedArrayBuffer(SHARED_BYTES), 0);
  let reads = 0;
  const bus = { read: () => ++reads, write: () => {} };
  answerRegisterCall(words, bus);
  equal(reads, 0);
});
