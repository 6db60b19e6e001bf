import assert from "node:assert/strict";
import { VmmProcess, VmStartError } from "../../src/session/vmm_process.ts";
import type { VmConfig } from "../../src/vmm/protocol.ts";

const CONFIG: VmConfig = { kernelPath: "/k", cmdline: "", memoryMib: 128, cpus: 1, disks: [] };
const HELLO = `echo '{"type":"hello","pid":1}'; read -r start; `;
const STARTED = `echo '{"type":"started","timings":` +
  `{"processStartMs":1,"kvmReadyMs":2,"kernelLoadedMs":3,"firstInstructionMs":4}}'; `;
const POWEROFF = `echo '{"type":"stopped","reason":"poweroff","exits":{"io":1}}'; `;

/** A shell script in place of the VMM: its real command line comes as arguments that it does not look at. */
function fakeVmm(script: string): VmmProcess {
  return VmmProcess.spawn(["sh", "-c", script], "monitor.js", 300);
}

Deno.test("VmmProcess starts a VM, collects its console and stops it", async () => {
  const vmm = fakeVmm(
    `${HELLO} ${STARTED} echo '{"type":"console","data":"aGVsbG8="}'; read -r stop; ${POWEROFF}`,
  );
  assert.equal((await vmm.start(CONFIG)).firstInstructionMs, 4);
  const end = await vmm.stop(1000);
  assert.deepEqual(end, { type: "stopped", reason: "poweroff", exits: { io: 1 } });
  assert.equal(vmm.console.text, "hello");
});

Deno.test("VmmProcess.start() rejects with the VMM's own reason", async () => {
  const vmm = fakeVmm(`${HELLO} echo '{"type":"failed","code":"kvm","message":"no /dev/kvm"}'; exit 3`);
  await assert.rejects(vmm.start(CONFIG), (error: Error) => {
    assert.ok(error instanceof VmStartError);
    assert.match(error.message, /no \/dev\/kvm/);
    return true;
  });
});

Deno.test("VmmProcess.start() rejects with what a crashing VMM wrote to its stderr", async () => {
  const vmm = fakeVmm("echo 'segfault at 0' >&2; exit 139");
  await assert.rejects(vmm.start(CONFIG), /exit code 139: segfault at 0/);
  assert.equal((await vmm.ended).type, "crashed");
});

Deno.test("VmmProcess kills a VMM that sends garbage, a wrong event, or a line without end", async () => {
  for (const script of ["echo garbage; sleep 60", `echo '{"type":"won"}'; sleep 60`, "yes x | tr -d '\\n'"]) {
    const vmm = fakeVmm(script);
    await assert.rejects(vmm.start(CONFIG), VmStartError, script);
    assert.equal((await vmm.ended).type, "crashed");
  }
});

Deno.test("VmmProcess.stop() ends a VMM that ignores the request and SIGTERM", async () => {
  const vmm = fakeVmm(`trap '' TERM; ${HELLO} ${STARTED} while :; do sleep 0.05; done`);
  await vmm.start(CONFIG);
  const start = performance.now();
  assert.equal((await vmm.stop(100)).type, "crashed");
  assert.ok(performance.now() - start < 5000);
});

/** A VMM that says what it was asked, and ends. */
const SAYS_REQUEST = `${HELLO} ${STARTED} read -r stop; echo "$stop" >&2; exit 7`;

Deno.test("VmmProcess.stop() asks the guest's init first, and the VMM for nothing if that ends the guest", async () => {
  const vmm = fakeVmm(`${HELLO} ${STARTED} sleep 0.2; ${POWEROFF}`);
  await vmm.start(CONFIG);
  let asked = 0;
  const end = await vmm.stop(10_000, () => Promise.resolve(void asked++));
  assert.deepEqual(end, { type: "stopped", reason: "poweroff", exits: { io: 1 } });
  assert.equal(asked, 1);
});

Deno.test("VmmProcess.stop() asks the VMM at once when the init cannot be asked, with all the time", async () => {
  const vmm = fakeVmm(SAYS_REQUEST);
  await vmm.start(CONFIG);
  const start = performance.now();
  const end = await vmm.stop(20_000, () => Promise.reject(new Error("connection refused")));
  assert.ok(performance.now() - start < 5000);
  assert.ok(end.type === "crashed" && end.exitCode === 7, JSON.stringify(end));
  const graceMs = Number(/"graceMs":([0-9]+)/.exec(end.message)?.[1]);
  assert.ok(graceMs > 15_000 && graceMs <= 20_000, end.message);
});

Deno.test("VmmProcess.stop() asks the VMM after half of the time when the init says yes and does nothing", async () => {
  for (const answer of [Promise.resolve(), new Promise<void>(() => {})]) {
    const vmm = fakeVmm(SAYS_REQUEST);
    await vmm.start(CONFIG);
    const start = performance.now();
    const end = await vmm.stop(1000, () => answer);
    const elapsed = performance.now() - start;
    assert.ok(elapsed >= 499 && elapsed < 5000, `${elapsed} ms`);
    assert.ok(end.type === "crashed" && end.exitCode === 7, JSON.stringify(end));
    assert.ok(Number(/"graceMs":([0-9]+)/.exec(end.message)?.[1]) <= 501, end.message);
  }
});

Deno.test("VmmProcess.end() lets the VMM say what it counted, and waits for nothing else of it", async () => {
  const killed = `echo '{"type":"stopped","reason":"killed","exits":{"mmio":5}}'; `;
  const vmm = fakeVmm(`${HELLO} ${STARTED} read -r stop; ${killed} exec sleep 60`);
  await vmm.start(CONFIG);
  const start = performance.now();
  assert.deepEqual(await vmm.end(), { type: "stopped", reason: "killed", exits: { mmio: 5 } });
  assert.ok(performance.now() - start < 1400, `${performance.now() - start} ms`);
});

Deno.test("VmmProcess.end() does not wait for a VMM that says nothing", async () => {
  const vmm = fakeVmm(`${HELLO} ${STARTED} trap '' TERM; exec sleep 60`);
  await vmm.start(CONFIG);
  const start = performance.now();
  assert.equal((await vmm.end()).type, "crashed");
  assert.ok(performance.now() - start < 5000);
});

Deno.test("VmmProcess.pause() and resume() wait for the VMM's own word", async () => {
  const answers =
    `read -r a; sleep 0.2; echo '{"type":"paused","pauseMs":0.5}'; read -r b; echo "$a $b" >&2; `;
  const vmm = fakeVmm(`${HELLO} ${STARTED} ${answers} echo '{"type":"resumed"}'; read -r c; exit 7`);
  await vmm.start(CONFIG);
  const start = performance.now();
  await vmm.pause();
  assert.ok(performance.now() - start >= 190);
  await vmm.resume();
  const end = await vmm.stop(1000);
  assert.ok(end.type === "crashed" && end.message.startsWith('{"type":"pause"} {"type":"resume"}'));
});

Deno.test("VmmProcess.pause() fails with a VM that ends meanwhile", async () => {
  const vmm = fakeVmm(`${HELLO} ${STARTED} read -r a; ${POWEROFF}`);
  await vmm.start(CONFIG);
  await assert.rejects(vmm.pause(), /VM is not paused: guest powered off/);
});

Deno.test("VmmProcess.kill() ends a VMM at once, and twice does no harm", async () => {
  const vmm = fakeVmm(`${HELLO} ${STARTED} sleep 60`);
  await vmm.start(CONFIG);
  await vmm.kill();
  assert.equal((await vmm.kill()).type, "crashed");
});

Deno.test("a VMM process sees none of the user's variables", async () => {
  Deno.env.set("OPENAI_API_KEY", "sk-of-the-user");
  const vmm = fakeVmm("env >&2; exit 1");
  Deno.env.delete("OPENAI_API_KEY");
  const end = await vmm.ended;
  assert.ok(end.type === "crashed" && end.message.includes("=") && !end.message.includes("sk-of-the-user"));
});
