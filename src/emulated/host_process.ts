/**
 * The processes of the emulated host: how they are started, found again, and ended. All that is known of them
 * lies in one folder, so that any later process can clean up.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { findTool } from "../images/host_tools.ts";
import { cacheDir, sourceDir, stateDir } from "../images/paths.ts";
import { toolMissing } from "../images/command.ts";
import { packDenoCache } from "./deno_cache.ts";
import { sourceStamp } from "./source_stamp.ts";
import type { HostImage } from "./host_image.ts";

/** Changes with the way that the host is started, so that one started in an older way is replaced. */
export const LAUNCH = "6";

/**
 * What QEMU emulates. Without ERMS and FSRM programs copy memory eight bytes at a time, which emulation does
 * eight times as fast. With PKU, V8 changes its rights at each piece of code that it writes, and QEMU forgets all
 * translated addresses each time: without it QEMU 10 needs a quarter less time for a task (QEMU 7.2 as long as with it).
 */
const CPU = "max,-erms,-fsrm,-pku";

/** What is recorded of a started host. */
export interface HostRecord {
  readonly imageKey: string;
  readonly launch: string;
  readonly sourceDir: string;
  readonly cacheDir: string;
  readonly denoPath: string;
  readonly port: number;
  readonly memoryMib: number;
  readonly startedAt: string;
}

/** Folder of the running host. */
export function runDir(): string {
  return join(stateDir(), "emulated-host");
}

/** Folder that the emulated host sees read-write as `/exchange`. */
export function exchangeDir(): string {
  return join(runDir(), "exchange");
}

/** Reads what is recorded, if anything. */
export async function readRecord(): Promise<HostRecord | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(join(runDir(), "record.json"))) as HostRecord;
  } catch {
    // nothing recorded, or half a record of a start that was killed: both mean that no host is known
    return undefined;
  }
}

/** The token that every request to the host carries. */
export async function readToken(): Promise<string> {
  return await Deno.readTextFile(join(runDir(), "token"));
}

/** Process id of the running supervisor, if it is alive and is ours. */
export async function supervisorPid(): Promise<number | undefined> {
  return await ownPid(join(runDir(), "pid"), "supervise.sh");
}

async function ownPid(pidFile: string, word: string): Promise<number | undefined> {
  let pid: number;
  try {
    pid = Number.parseInt(await Deno.readTextFile(pidFile));
  } catch {
    return undefined;
  }
  return Number.isSafeInteger(pid) && await commandLineHas(pid, word) ? pid : undefined;
}

/** Whether process `pid` is one that was started for this run folder: its id may belong to another by now. */
async function commandLineHas(pid: number, word: string): Promise<boolean> {
  // A child reads it: Deno opens /proc only for programs that may do everything
  const { stdout } = await new Deno.Command("cat", { args: [`/proc/${pid}/cmdline`], stderr: "null" })
    .output();
  const line = new TextDecoder().decode(stdout).replaceAll("\0", " ");
  return line.includes(word) && line.includes(runDir());
}

/** Ends what is running and removes its records. */
export async function killHost(): Promise<void> {
  const pids: number[] = [];
  const supervisor = await supervisorPid();
  if (supervisor !== undefined) pids.push(supervisor);
  for (const pid of await childPids()) if (await commandLineHas(pid, "")) pids.push(pid);
  for (const pid of pids) signal(pid, "SIGKILL");
  for (let i = 0; i < 200; i++) {
    const alive = await Promise.all(pids.map((pid) => commandLineHas(pid, "")));
    if (!alive.includes(true)) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (const name of ["pid", "children", "record.json", "token", "fs.sock"]) {
    await Deno.remove(join(runDir(), name)).catch(() => {
      // it was not there
    });
  }
}

async function childPids(): Promise<number[]> {
  try {
    const text = await Deno.readTextFile(join(runDir(), "children"));
    return text.trim().split(" ").map(Number).filter(Number.isSafeInteger);
  } catch {
    return [];
  }
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch {
    // it ended in between
  }
}

/** RAM for the emulated host in `MiB`: room for one large guest, but at most half of what is free. */
export function chooseMemoryMib(availableBytes: number): number {
  const half = Math.floor(availableBytes / 2 / 2 ** 20);
  return Math.max(2560, Math.min(6144, Math.floor(half / 256) * 256));
}

/** Starts the processes; they outlive this one. Whether they work is for the caller to find out. @throws {ImageError} */
export async function spawnHost(image: HostImage, signal?: AbortSignal): Promise<HostRecord> {
  const record: HostRecord = {
    imageKey: image.key,
    launch: LAUNCH,
    sourceDir: sourceDir(),
    cacheDir: cacheDir(),
    denoPath: await Deno.realPath(Deno.execPath()),
    port: freePort(),
    memoryMib: chooseMemoryMib(Deno.systemMemoryInfo().available),
    startedAt: new Date().toISOString(),
  };
  const run = runDir();
  await Deno.mkdir(exchangeDir(), { recursive: true });
  await removeAll(join(exchangeDir(), "deno_dir.tar"));
  const token = crypto.randomUUID() + crypto.randomUUID();
  await Deno.writeTextFile(join(run, "token"), token, { mode: 0o600 });
  await Deno.writeTextFile(join(exchangeDir(), "host.env"), hostEnv(record, token), { mode: 0o600 });
  await Deno.writeTextFile(join(run, "record.json"), JSON.stringify(record));
  // What the last one said before it died stays readable
  await Deno.rename(join(run, "console.log"), join(run, "console.log.1")).catch(() => {
    // there was none
  });
  await writeStamp();
  const argv = await superviseCommand(image, record);
  const [program = "", ...args] = argv;
  const child = new Deno.Command(program, {
    args,
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  child.unref();
  // While it boots
  await packDenoCache(join(run, "deno_dir"), join(exchangeDir(), "deno_dir.tar"), signal);
  return record;
}

/** Tells a server that starts from now on which state of the source tree it is made from; returns it. */
export async function writeStamp(): Promise<string> {
  const stamp = await sourceStamp(sourceDir());
  await Deno.writeTextFile(join(exchangeDir(), "source-stamp"), stamp);
  return stamp;
}

function hostEnv(record: HostRecord, token: string): string {
  const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const name = record.denoPath.slice(dirname(record.denoPath).length + 1);
  return `PADDOCK_SOURCE=${quote(record.sourceDir)}\nPADDOCK_DENO_NAME=${
    quote(name)
  }\nexport PADDOCK_TOKEN=${token}\n`;
}

async function superviseCommand(image: HostImage, record: HostRecord): Promise<string[]> {
  const virtiofsd = await findTool("virtiofsd");
  const qemu = await findTool("qemu-system-x86_64");
  if (virtiofsd === undefined) throw toolMissing("virtiofsd");
  if (qemu === undefined) throw toolMissing("qemu-system-x86_64");
  const mapping = Deno.uid() === 0 ? [] : ["--map-root-user"];
  const script = join(record.sourceDir, "src/emulated/supervise.sh");
  const folders = [runDir(), record.sourceDir, record.cacheDir, dirname(record.denoPath)];
  const unshare = ["unshare", ...mapping, "--mount", "--propagation", "private", "--"];
  return [...unshare, "bash", script, ...folders, virtiofsd, qemu, ...qemuArguments(image, record)];
}

/**
 * CPUs that guests and programs run on. The host has one more, CPU 0, which is left to its kernel (`irqaffinity` here,
 * `taskset` in guest_init.sh): QEMU, 7.2 and 10.0 alike, changes CPU 0's `hflags2` from the thread of any CPU that
 * restores an FPU state (`cpu_clear_ignne`), without a lock. On CPU 0 a change of it by VMRUN, #VMEXIT or STGI was lost
 * about once in three million, and with it the guest or the whole host.
 */
const GUEST_CPUS = Math.max(2, Math.min(4, navigator.hardwareConcurrency));

function qemuArguments(image: HostImage, record: HostRecord): string[] {
  const run = runDir();
  const cmdline =
    `console=ttyS0 quiet mitigations=off nokaslr panic=-1 tsc=reliable random.trust_cpu=on irqaffinity=0`;
  return [
    ...[
      "-name",
      `paddock-emulated-host,process=paddock-host`,
      "-M",
      "q35,memory-backend=ram,sata=off,smbus=off,i8042=off,vmport=off",
    ],
    ...[
      "-accel",
      "tcg,thread=multi,tb-size=1024",
      "-cpu",
      CPU,
      "-smp",
      String(1 + GUEST_CPUS),
      "-m",
      `${record.memoryMib}M`,
    ],
    ...["-object", `memory-backend-memfd,id=ram,size=${record.memoryMib}M,share=on`],
    ...["-kernel", image.kernelPath, "-initrd", image.initrdPath, "-append", cmdline],
    ...["-drive", `file=${image.diskPath},format=raw,if=none,id=disk,snapshot=on,cache=unsafe,discard=unmap`],
    ...["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"],
    ...[
      "-netdev",
      `user,id=net,hostfwd=tcp:127.0.0.1:${record.port}-:8080`,
      "-device",
      "virtio-net-pci,netdev=net,romfile=",
    ],
    ...[
      "-chardev",
      `socket,id=fs,path=${run}/fs.sock`,
      "-device",
      "vhost-user-fs-pci,chardev=fs,tag=share,queue-size=1024",
    ],
    ...[
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
      "-no-reboot",
      "-serial",
      `file:${run}/console.log`,
    ],
  ];
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
