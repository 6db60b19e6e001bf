import { equal, ok } from "node:assert/strict";
import { CODE_ADDR, elfOf } from "../support/tiny_guest.ts";
import { LinuxVm } from "../support/linux_vm.ts";

/** Rounds of a loop: some tenths of a second. */
const WORK = [...new Uint8Array(Uint32Array.of(50_000_000).buffer)];
/**
 * A Linux program: binds itself to the CPU whose number is its count of arguments, works, and exits with the number of the
 * CPU that it is then on. (The guest's image has no taskset.)
 */
const PINNED = Uint8Array.from([
  ...[0x48, 0x8b, 0x0c, 0x24, 0xff, 0xc9], // mov rcx, [rsp]; dec ecx
  ...[0xb8, 1, 0, 0, 0, 0x48, 0xd3, 0xe0, 0x50], // mov eax, 1; shl rax, cl; push rax
  ...[0x48, 0x89, 0xe2, 0xbe, 8, 0, 0, 0, 0x31, 0xff], // mov rdx, rsp; mov esi, 8; xor edi, edi
  ...[0xb8, 203, 0, 0, 0, 0x0f, 0x05], // sched_setaffinity(0, 8, rsp)
  ...[0xb9, ...WORK, 0xff, 0xc9, 0x75, 0xfc], // mov ecx, WORK; 1: dec ecx; jnz 1
  ...[0x48, 0x89, 0xe7, 0x31, 0xf6, 0x31, 0xd2], // mov rdi, rsp; xor esi, esi; xor edx, edx
  ...[0xb8, 0x35, 0x01, 0, 0, 0x0f, 0x05], // getcpu(rsp, 0, 0)
  ...[0x8b, 0x3c, 0x24, 0xb8, 60, 0, 0, 0, 0x0f, 0x05], // exit([rsp])
]);

/** The program as a file: a tiny guest's, with the segment's address and permissions that Linux wants. */
function programFile(): string {
  const file = elfOf(PINNED);
  const view = new DataView(file.buffer);
  const headerBytes = 120;
  view.setUint32(68, 5, true); // readable and executable
  view.setBigUint64(72, 0n, true); // whole pages: the headers come along
  view.setBigUint64(80, BigInt(CODE_ADDR), true);
  view.setBigUint64(24, BigInt(CODE_ADDR + headerBytes), true);
  for (const at of [96, 104]) view.setBigUint64(at, BigInt(file.byteLength), true);
  return file.toBase64();
}

const RUN_ON_EACH = `
echo ${programFile()} | base64 -d > /root/pinned && chmod 755 /root/pinned
arguments=
for cpu in $(seq 0 $(($(nproc) - 1))); do
  { /root/pinned $arguments; echo $?; } &
  arguments="$arguments x"
done
wait`;

for (const cpus of [4, 16]) {
  Deno.test(`a guest sees ${cpus} vCPUs, and work that is bound to each runs there`, async () => {
    await using vm = await LinuxVm.boot({ cpus, bootTimeoutMs: 240_000 });
    equal((await vm.sh("nproc")).output, `${cpus}\n`);
    const { output } = await vm.sh(RUN_ON_EACH);
    const ranOn = output.trim().split("\n").map(Number).toSorted((a, b) => a - b);
    equal(ranOn.join(" "), Array.from({ length: cpus }, (_, index) => index).join(" "), output);
    console.log(`${cpus} vCPUs: ready at ${vm.readyUptimeMs} ms of uptime`);
  });
}

Deno.test("a Linux guest with 2 vCPUs stands still while paused, and works on after it", async () => {
  await using vm = await LinuxVm.boot({ cpus: 2, bootTimeoutMs: 120_000 });
  await vm.vmm.send({ type: "pause" });
  const { pauseMs } = await vm.vmm.until("paused");
  console.log(`paused in ${pauseMs.toFixed(1)} ms`);
  let answered = false;
  const answer = vm.sh("echo awake").then((result) => {
    answered = true;
    return result;
  });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  ok(!answered, "a paused guest answered");
  await vm.vmm.send({ type: "resume" });
  equal((await answer).output, "awake\n");
});

Deno.test("the init's markers make the times of a boot whole", async () => {
  await using vm = await LinuxVm.boot();
  const { timings } = await vm.vmm.until("booted", 5000);
  const { firstInstructionMs, initMs = 0, readyMs = 0 } = timings;
  console.log(JSON.stringify(timings));
  ok(initMs > firstInstructionMs && readyMs > initMs, JSON.stringify(timings));
});
