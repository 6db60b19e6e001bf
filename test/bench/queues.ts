/**
 * What the block and network devices do on any KVM: a guest of a few instructions in place of Linux fills a queue, rings,
 * and waits for it to be served, again and again. What is measured is the monitor's own part of a request.
 *
 * @module
 */

import { VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES } from "../../src/machine/layout.ts";
import * as abi from "../../src/virtio/abi.ts";
import { run } from "../support/command.ts";
import { asm } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";
import { ConsoleProcess, pvhElfOf, QEMU_SLOT, qemuArguments, type QemuOptions } from "./qemu_microvm.ts";
import { OURS, type Row } from "./report.ts";
import { alternate, summarise } from "./series.ts";
import type { BenchTools, Program } from "./tools.ts";

/** How to measure. */
export interface QueueBenchOptions {
  readonly rounds: number;
  readonly tools: BenchTools;
  /** hears what is going on */
  readonly onStep: (text: string) => void;
}

// Where the guest keeps its queue
const DESC = 0x20_0000;
const AVAIL = 0x20_1000;
const USED = 0x20_2000;
const HEADERS = 0x20_3000;
const STATUS = 0x20_4000;
const DATA = 0x21_0000;
const QUEUE_SIZE = 128;

const SERIAL = 0x3f8;
const MEMORY_MIB = 16;
const DISK_BYTES = 64 * 1024 * 1024;
const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;
/** virtio_net_hdr_v1 and a full Ethernet frame; where it goes to does not matter */
const FRAME_BYTES = 12 + 1514;
const TRANSMIT_QUEUE = 1;

const NEXT = 1;
const WRITE = 2;

/** One thing to measure. */
interface Job {
  readonly what: string;
  readonly device: "disk" | "net";
  /** requests that are handed over at a time */
  readonly batch: number;
  readonly batches: number;
}

const DISK_JOBS: readonly Job[] = [
  { what: "4 KiB reads, one at a time", device: "disk", batch: 1, batches: 20_000 },
  { what: "4 KiB reads, 32 at a time", device: "disk", batch: 32, batches: 2000 },
];
const NET_JOBS: readonly Job[] = [
  { what: "frames sent, one at a time", device: "net", batch: 1, batches: 20_000 },
  { what: "frames sent, 32 at a time", device: "net", batch: 32, batches: 4000 },
];

/** Requests to a disk. */
export async function benchDiskQueue(options: QueueBenchOptions): Promise<Row[]> {
  return await benchJobs(DISK_JOBS, options);
}

/** Frames into a TAP device; takes root, for a network namespace. */
export async function benchNetQueue(options: QueueBenchOptions): Promise<Row[]> {
  return Deno.uid() === 0 ? await benchJobs(NET_JOBS, options) : [];
}

async function benchJobs(jobs: readonly Job[], { rounds, tools, onStep }: QueueBenchOptions): Promise<Row[]> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-bench-" });
  const namespace = `pdk-bench-${Deno.pid}`;
  const needsNet = jobs.some(({ device }) => device === "net");
  try {
    await Deno.writeFile(`${folder}/disk`, crypto.getRandomValues(new Uint8Array(65_536)));
    await Deno.truncate(`${folder}/disk`, DISK_BYTES);
    if (needsNet) {
      run("ip", ["netns", "add", namespace]);
      // One each: a TAP device has one user
      for (const tap of ["tap0", "tap1"]) {
        run("ip", ["-n", namespace, "tuntap", "add", tap, "mode", "tap", "vnet_hdr"]);
        run("ip", ["-n", namespace, "link", "set", tap, "up"]);
      }
    }
    const rows: Row[] = [];
    for (const job of jobs) {
      onStep(`guest without Linux: ${job.what}`);
      const { qemu } = tools;
      const place = { folder, namespace: job.device === "net" ? namespace : undefined };
      const values = await alternate({
        [OURS]: () => ours(job, place),
        ...(qemu !== undefined && { qemu: () => peer(job, place, qemu) }),
      }, rounds);
      const contenders = Object.fromEntries(
        Object.entries(values).map(([name, measured]) => [name, summarise(measured)]),
      );
      const what = `${job.what}, guest without Linux`;
      rows.push({ what, unit: "1/s", contenders, goal: { ratio: { atLeast: 1 } } });
    }
    return rows;
  } finally {
    if (needsNet) run("ip", ["netns", "del", namespace]);
    await Deno.remove(folder, { recursive: true });
  }
}

interface Place {
  readonly folder: string;
  readonly namespace: string | undefined;
}

interface Monitor extends AsyncDisposable {
  untilConsole(text: string): Promise<void>;
}

/** Requests a second, from the guest's marks on its console as they arrive here. */
async function measure(monitor: Monitor, { batch, batches }: Job): Promise<number> {
  await monitor.untilConsole("(");
  const startMs = performance.now();
  await monitor.untilConsole(")");
  return batch * batches / (performance.now() - startMs) * 1000;
}

async function ours(job: Job, { folder, namespace }: Place): Promise<number> {
  // Entropy comes before the network
  const slot = job.device === "disk" ? 0 : 1;
  const kernelPath = `${folder}/ours.elf`;
  await Deno.writeFile(kernelPath, pvhElfOf(guestOf(job, VIRTIO_MMIO_ADDR + slot * VIRTIO_MMIO_BYTES)));
  await using vmm = new TestVmm(namespace);
  await vmm.start({
    kernelPath,
    disks: job.device === "disk" ? [{ path: `${folder}/disk`, format: "raw" }] : [],
    ...(job.device === "net" && { net: { tap: "tap0" } }),
  });
  return await measure(vmm, job);
}

async function peer(job: Job, { folder, namespace }: Place, program: Program): Promise<number> {
  const kernelPath = `${folder}/qemu.elf`;
  await Deno.writeFile(kernelPath, pvhElfOf(guestOf(job, QEMU_SLOT)));
  const options: QemuOptions = {
    kernelPath,
    memoryMib: MEMORY_MIB,
    disks: job.device === "disk" ? [{ path: `${folder}/disk`, format: "raw" }] : [],
    ...(job.device === "net" && { net: { tap: "tap1", vhost: false } }),
  };
  const enter = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
  await using qemu = new ConsoleProcess([...enter, ...program, ...qemuArguments(options)]);
  return await measure(qemu, job);
}

/** The guest; its code means the same in 32-bit mode, in which QEMU enters it, and in 64-bit mode. */
export function guestOf(job: Job, device: number): Uint8Array {
  const queue = job.device === "disk" ? 0 : TRANSMIT_QUEUE;
  return Uint8Array.from([
    ...(job.device === "disk" ? diskChains(job.batch) : frameChains(job.batch)),
    // No interrupts: the guest looks
    ...asm.store(AVAIL, 1, 2),
    ...setUp(device, queue),
    ...asm.outByte(SERIAL, 0x28),
    ...serveBatches(job, device + abi.VIRTIO_MMIO_QUEUE_NOTIFY, queue),
    ...asm.outByte(SERIAL, 0x29),
    ...asm.spin,
  ]);
}

const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];

/** Hands over a batch, rings, and waits until it has come back; as often as the job says. */
function serveBatches({ batch, batches }: Job, notify: number, queue: number): number[] {
  const body = [
    ...[0xbb, ...u32(AVAIL + 2), 0x66, 0x83, 0x03, batch], // mov ebx, &avail.idx; add word [rbx], batch
    ...[0x66, 0x8b, 0x03], // mov ax, [rbx]
    ...[0xbb, ...u32(notify), 0xc7, 0x03, ...u32(queue)], // mov ebx, notify; mov dword [rbx], queue
    ...[0xbb, ...u32(USED + 2)], // mov ebx, &used.idx
    ...[0xf3, 0x90, 0x66, 0x3b, 0x03, 0x75, 0xf9], // 1: pause; cmp ax, [rbx]; jne 1b
    ...[0xff, 0xc9], // dec ecx
  ];
  return [0xb9, ...u32(batches), ...body, 0x0f, 0x85, ...u32(-(body.length + 6) >>> 0)]; // mov ecx, batches; …; jnz
}

function descriptor(index: number, addr: number, len: number, flags: number): number[] {
  const at = DESC + 16 * index;
  return [
    ...asm.store(at, addr, 4),
    ...asm.store(at + 8, len, 4),
    ...asm.store(at + 12, flags | ((index + 1) << 16), 4),
  ];
}

/** The ring names the chains' heads in turn. */
function available(heads: readonly number[]): number[] {
  return Array.from(
    { length: QUEUE_SIZE },
    (_, place) => asm.store(AVAIL + 4 + 2 * place, heads[place % heads.length] ?? 0, 2),
  ).flat();
}

/** Reads from different places (virtio 1.2 §5.2.6): header, data, status. */
function diskChains(count: number): number[] {
  const chains = Array.from({ length: count }, (_, index) => [
    ...asm.store(HEADERS + 16 * index + 8, index * 64 * BLOCK_BYTES / SECTOR_BYTES, 4),
    ...descriptor(3 * index, HEADERS + 16 * index, 16, NEXT),
    ...descriptor(3 * index + 1, DATA + BLOCK_BYTES * index, BLOCK_BYTES, NEXT | WRITE),
    ...descriptor(3 * index + 2, STATUS + index, 1, WRITE),
  ]);
  return [...chains.flat(), ...available(chains.map((_, index) => 3 * index))];
}

/** Frames, each with its header before it. */
function frameChains(count: number): number[] {
  const chains = Array.from(
    { length: count },
    (_, index) => descriptor(index, DATA + 2048 * index, FRAME_BYTES, 0),
  );
  return [...chains.flat(), ...available(chains.map((_, index) => index))];
}

/** A driver's start (§3.1.1): VIRTIO_F_VERSION_1 alone, one queue, DRIVER_OK. */
function setUp(device: number, queue: number): number[] {
  const steps: readonly (readonly [number, number])[] = [
    [abi.VIRTIO_MMIO_STATUS, 0],
    [abi.VIRTIO_MMIO_STATUS, 1],
    [abi.VIRTIO_MMIO_STATUS, 3],
    [abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1],
    [abi.VIRTIO_MMIO_DRIVER_FEATURES, 1],
    [abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0],
    [abi.VIRTIO_MMIO_DRIVER_FEATURES, 0],
    [abi.VIRTIO_MMIO_STATUS, 11],
    [abi.VIRTIO_MMIO_QUEUE_SEL, queue],
    [abi.VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE],
    [abi.VIRTIO_MMIO_QUEUE_DESC_LOW, DESC],
    [abi.VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL],
    [abi.VIRTIO_MMIO_QUEUE_USED_LOW, USED],
    [abi.VIRTIO_MMIO_QUEUE_READY, 1],
    [abi.VIRTIO_MMIO_STATUS, 15],
  ];
  return steps.flatMap(([offset, value]) => asm.store(device + offset, value, 4));
}
