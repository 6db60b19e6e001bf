import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Machine, type MachineEnd } from "../../src/machine/machine.ts";
import { KICK_SIGNAL } from "../../src/machine/vcpu_thread.ts";
import { exists } from "../support/command.ts";
import { Random } from "../support/random.ts";
import { roundOf, smpGuest } from "../support/smp_guest.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const noKvm = !exists("/dev/kvm");
const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A test with a kernel file of this code; needs any /dev/kvm. */
function guestTest(name: string, code: Uint8Array, test: (kernelPath: string) => Promise<void>): void {
  Deno.test({
    name: noKvm ? `${name} (skipped: no /dev/kvm)` : name,
    ignore: noKvm,
    async fn(): Promise<void> {
      const kernelPath = Deno.makeTempFileSync({ prefix: "paddock-guest-", suffix: ".elf" });
      const listener = (): void => {};
      Deno.addSignalListener(KICK_SIGNAL.name, listener);
      try {
        Deno.writeFileSync(kernelPath, elfOf(code));
        await test(kernelPath);
      } finally {
        Deno.removeSignalListener(KICK_SIGNAL.name, listener);
        Deno.removeSync(kernelPath);
      }
    },
  });
}

function start(kernelPath: string, cpus: number, onConsole = (): void => {}): Promise<Machine> {
  return Machine.start({ kernelPath, cmdline: "", memoryMib: 16, cpus, disks: [] }, onConsole);
}

/** Takes console output until every one of `cpus` CPUs has printed; throws after 10 s. */
async function everyCpuPrints(machine: Machine, cpus: number): Promise<void> {
  const missing = new Set(roundOf(cpus));
  for (const deadline = performance.now() + 10_000; missing.size > 0;) {
    ok(performance.now() < deadline, `CPUs ${[...missing].join("")} print nothing`);
    for (const letter of new TextDecoder().decode(machine.takeConsole())) missing.delete(letter);
    await delay(1);
  }
}

/** The end of a machine; a stuck thread is an error and not a test that waits for ever. */
async function endOf(machine: Machine, what: string): Promise<MachineEnd> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RangeError(`Stuck after ${what}`)), 20_000);
  });
  try {
    return await Promise.race([machine.ended, late]);
  } finally {
    clearTimeout(timer);
  }
}

guestTest(
  "a paused guest does nothing, and goes on with all CPUs when resumed",
  smpGuest(4),
  async (path) => {
    const machine = await start(path, 4);
    await everyCpuPrints(machine, 4);
    for (let round = 0; round < 5; round++) {
      ok(await machine.pause() !== undefined);
      machine.takeConsole();
      await delay(30);
      equal(machine.takeConsole().byteLength, 0);
      equal(await machine.resume(), true);
      await everyCpuPrints(machine, 4);
    }
    machine.stop(0);
    equal((await machine.ended).reason, "killed");
  },
);

guestTest(
  "output goes on after a pause where it was: no CPU's turn is lost or done twice",
  smpGuest(2),
  async (path) => {
    let output = "";
    // The guest may print before its start is over: that waits in the ring.
    let running: Machine | undefined;
    const take = (): void => void (output += new TextDecoder().decode(running?.takeConsole()));
    const machine = running = await start(path, 2, take);
    // A loaded machine gives the guest little time between two pauses: until it was seen to go on, more of them.
    for (let round = 0; round < 40 || (output.length <= 40 && round < 2000); round++) {
      await machine.pause();
      await machine.resume();
      await delay(round % 4);
    }
    machine.stop(0);
    take();
    await machine.ended;
    ok(output.length > 40, `${output.length} letters`);
    match(output, /^(AB)+A?$/);
  },
);

guestTest("two spinning vCPUs are out of the guest within 10 ms", smpGuest(2), async (path) => {
  const machine = await start(path, 2);
  await everyCpuPrints(machine, 2);
  const times: number[] = [];
  for (let round = 0; round < 25; round++) {
    times.push(await machine.pause() ?? Infinity);
    await machine.resume();
    await delay(2);
  }
  machine.stop(0);
  await machine.ended;
  times.sort((a, b) => a - b);
  // The lower quartile: other work on the machine may take a CPU for longer.
  const quartile = times[Math.floor(times.length / 4)] ?? Infinity;
  ok(quartile < 10, `pauses took ${times.map((ms) => ms.toFixed(1)).join(" ")} ms`);
});

const halted = Uint8Array.from([...asm.hlt, ...asm.spin]);
guestTest("CPUs that are halted or were never started pause too", halted, async (path) => {
  const machine = await start(path, 3);
  ok(await machine.pause() !== undefined);
  equal(await machine.resume(), true);
  machine.stop(0);
  equal((await machine.ended).reason, "killed");
});

guestTest("requests are served in turn: the last one counts", smpGuest(2), async (path) => {
  const machine = await start(path, 2);
  await everyCpuPrints(machine, 2);
  const [first, again] = await Promise.all([
    machine.pause(),
    machine.pause(),
    machine.resume(),
    machine.pause(),
  ]);
  ok(first !== undefined && first > 0);
  equal(again, 0);
  machine.takeConsole();
  await delay(20);
  equal(machine.takeConsole().byteLength, 0);
  machine.stop(0);
  await machine.ended;
  deepEqual([await machine.pause(), await machine.resume()], [undefined, undefined]);
});

guestTest("a guest that ends by itself ends a pause that waits for it", smpGuest(2, 3), async (path) => {
  const machine = await start(path, 2);
  for (let round = 0; round < 1000; round++) {
    if (await machine.pause() === undefined) break;
    await machine.resume();
  }
  equal((await endOf(machine, "a power-off among pauses")).reason, "poweroff");
});

guestTest("200 cycles of start, pause, resume and stop leave no thread stuck", smpGuest(2), async (path) => {
  const random = new Random(20_260_101);
  for (let cycle = 0; cycle < 200; cycle++) {
    const cpus = 1 + random.below(3);
    const machine = await start(path, cpus);
    // Sometimes the next request comes while the last is under way, also the stop.
    const steps = Array.from({ length: random.below(5) }, () => random.below(3));
    for (const step of steps) {
      const request = step === 2 ? delay(random.below(3)) : step === 1 ? machine.pause() : machine.resume();
      if (random.below(2) === 0) await request;
    }
    machine.stop(0);
    equal((await endOf(machine, `cycle ${cycle}: ${cpus} CPUs, steps ${steps}`)).reason, "killed");
  }
});

guestTest(
  "a VMM pauses and resumes on request, and a paused guest can be stopped",
  smpGuest(2),
  async (path) => {
    await using vmm = new TestVmm();
    await vmm.start({ kernelPath: path, cpus: 2 });
    await vmm.until("started");
    await vmm.send({ type: "pause" });
    ok((await vmm.until("paused")).pauseMs > 0);
    await vmm.send({ type: "resume" });
    await vmm.until("resumed");
    await vmm.send({ type: "pause" });
    await vmm.send({ type: "stop", graceMs: 0 });
    equal((await vmm.until("stopped")).reason, "killed");
  },
);

Deno.test("a VMM refuses to pause what was not started", async () => {
  await using vmm = new TestVmm();
  await vmm.send({ type: "pause" });
  match((await vmm.until("failed")).message, /before a start/);
  equal((await vmm.status).code, 2);
});
