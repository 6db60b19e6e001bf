/**
 * Runs everything: format, lint, types, then all tests, with the counts of all of them in the last line. Installs what
 * is missing first (Debian packages, as root), so that a bare machine needs nothing else.
 *
 *     deno task test [--only PART]      PART: static, unit, boot, e2e
 *
 * @module
 */

import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { spec as codex } from "../agent-images/codex/agent.ts";
import { HOST_TOOLS } from "../src/images/host_tools.ts";
import { stateDir } from "../src/images/paths.ts";
import { prepareImage, type ProgressEvent } from "../src/images/prepare.ts";
import { chooseHost } from "../src/local/host_choice.ts";
import { hasTool } from "./support/command.ts";
import { prepareDebian } from "./support/debian_guest.ts";
import { prepareLoadGuest } from "./support/load_guest/load_guest.ts";

/** Programs that only the tests use. */
const TEST_TOOLS = [
  { tool: "cc", debianPackage: "gcc" },
  { tool: "qemu-img", debianPackage: "qemu-utils" },
  { tool: "script", debianPackage: "bsdutils" },
  { tool: "iasl", debianPackage: "acpica-tools" },
  { tool: "ping", debianPackage: "iputils-ping" },
  { tool: "chromium", debianPackage: "chromium" },
  { tool: "curl", debianPackage: "curl" },
] as const;

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Alpine's release file where the CDN cannot be reached: laid beside the project by whoever runs the tests. */
const ALPINE_BESIDE = fileURLToPath(
  new URL("../../shared/alpine/alpine-minirootfs-3.20.3-x86_64.tar.gz", import.meta.url),
);

const CLI_PERMISSIONS = ["read", "write", "run", "net", "env", "sys"].map((name) => `--allow-${name}`);

/** Longest run of the unit tests, of one file with VMs, and of stopping the emulated host. */
const UNIT_LIMIT_MS = 10 * 60_000;
const FILE_LIMIT_MS = 12 * 60_000;
/** Files that an emulated CPU takes longer for. */
const LONG_FILES: ReadonlyMap<string, number> = new Map([["test/e2e/openclaw_test.ts", 25 * 60_000]]);
const STOP_LIMIT_MS = 60_000;

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Part {
  readonly name: "static" | "unit" | "boot" | "e2e";
  run(): Promise<Counts>;
}

const PARTS: readonly Part[] = [
  { name: "static", run: runStatic },
  { name: "unit", run: runUnit },
  { name: "boot", run: runBoots },
  { name: "e2e", run: runEndToEnd },
];

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false; // absent
  }
}

/** Installs the Debian packages of programs that are not there. */
async function installTools(): Promise<void> {
  const missing = [...HOST_TOOLS, ...TEST_TOOLS].filter((entry) =>
    !hasTool(entry.tool) && !("paths" in entry && entry.paths?.some(isFile))
  );
  const packages = [...new Set(missing.map(({ debianPackage }) => debianPackage))];
  if (packages.length === 0) return;
  console.log(`Installing ${packages.join(" ")}`);
  for (const args of [["update"], ["install", "-y", "--no-install-recommends", ...packages]]) {
    const { code } = await new Deno.Command("apt-get", {
      args: ["-qq", "-o", "Dpkg::Use-Pty=0", ...args],
      env: { DEBIAN_FRONTEND: "noninteractive" },
      stdin: "null",
      stdout: "null",
    }).output();
    if (code !== 0) {
      console.error(
        `Cannot install packages: run apt-get install ${packages.join(" ")} as root, then try again`,
      );
      Deno.exit(2);
    }
  }
}

/** Formatting, lint, types: each counts as one test. */
async function runStatic(): Promise<Counts> {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const folders = ["src", "devices", "agent-images", "test"];
  for (const args of [["fmt", "--check"], ["lint"], ["check", ...folders]]) {
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: [args[0] ?? "", "--quiet", ...args.slice(1)],
      cwd: ROOT,
    })
      .spawn().status;
    console.log(`deno ${args.join(" ")} ... ${code === 0 ? "ok" : "FAILED"}`);
    if (code === 0) counts.passed++;
    else counts.failed++;
  }
  return counts;
}

/**
 * A `deno test`. Types were checked by the static part. All permissions: Deno asks for no less where a test looks at
 * /dev or /proc.
 */
function testCommand(...args: readonly string[]): string[] {
  return [Deno.execPath(), "test", "--no-check", "--no-lock", "--allow-all", ...args];
}

/**
 * All tests without Linux in a VM, in two processes at once: those of machines count their process's descriptors and
 * threads, so that they take turns and have a process of their own.
 */
async function runUnit(): Promise<Counts> {
  const [others, machines] = await Promise.all([
    count(testCommand("--parallel", "--ignore=test/kvm,test/boot,test/e2e", "test"), UNIT_LIMIT_MS),
    count(testCommand("test/kvm"), UNIT_LIMIT_MS, "at the end"),
  ]);
  return sum([others, machines]);
}

function sum(all: readonly Counts[]): Counts {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const counts of all) {
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
  return total;
}

function cliCommand(...args: readonly string[]): string[] {
  return [Deno.execPath(), "run", "--quiet", ...CLI_PERMISSIONS, "src/cli/main.ts", ...args];
}

/** Boots need a KVM that is whole: they run where the product would run its VMs. */
async function runBoots(): Promise<Counts> {
  await prepareImage(codex, { onProgress: showProgress });
  await prepareLoadGuest();
  // Its packages run their scripts in a chroot, which takes root; without it, its test is skipped
  if (Deno.uid() === 0) await prepareDebian();
  const { kind, reason } = await chooseHost(stateDir());
  console.log(`Boots run on the ${kind} KVM host: ${reason}`);
  return await runFiles("test/boot", kind, (file) => {
    if (kind === "native") return testCommand(file);
    const inside = `cd /paddock && NO_COLOR=1 deno test --no-check --no-lock --allow-all ${file} 2>&1`;
    return cliCommand("host", "exec", "--", "sh", "-c", inside);
  });
}

async function runEndToEnd(): Promise<Counts> {
  const { kind } = await chooseHost(stateDir());
  return await runFiles("test/e2e", kind, (file) => testCommand(file));
}

/**
 * Runs the test files of a folder one by one, each in bounded time. On the emulated host, where everything runs ten times
 * slower on a machine that others may load, a file that failed gets a second try on a fresh host, and the output says so:
 * a test that needs it often has a defect.
 */
async function runFiles(folder: string, kind: string, command: (file: string) => string[]): Promise<Counts> {
  const all: Counts[] = [];
  const names = [...Deno.readDirSync(`${ROOT}/${folder}`)].map(({ name }) => name);
  // Beside its tests a folder may hold what they are made of, such as a program for the guest
  for (
    const file of names.filter((name) => name.endsWith("_test.ts")).sort().map((name) => `${folder}/${name}`)
  ) {
    const limitMs = LONG_FILES.get(file) ?? FILE_LIMIT_MS;
    let counts = await count(command(file), limitMs);
    if (counts.failed > 0 && kind === "emulated") {
      console.log(`${file}: failed on the emulated host; second try on a fresh one`);
      await count(cliCommand("host", "stop"), STOP_LIMIT_MS);
      counts = await count(command(file), limitMs);
      console.log(`${file}: second try ${counts.failed === 0 ? "passed" : "failed"}`);
    }
    all.push(counts);
  }
  return sum(all);
}

function showProgress(event: ProgressEvent): void {
  if (event.type === "step") console.log(`[${event.index}/${event.count}] ${event.message}`);
  if (event.type === "done") console.log(`${event.step}: ${(event.ms / 1000).toFixed(1)} s`);
  if (event.type === "notice") console.log(event.message);
}

/** Runs a program, its output shown as it comes or at the end, and reads the counts of `deno test` from its last lines. */
async function count(
  [program = "", ...args]: readonly string[],
  limitMs: number,
  show: "as it comes" | "at the end" = "as it comes",
): Promise<Counts> {
  const child = new Deno.Command(program, {
    args,
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const timer = setTimeout(() => {
    console.log(`Not ended after ${limitMs / 60_000} minutes: killed`);
    child.kill("SIGKILL");
  }, limitMs);
  const kept: Uint8Array[] = [];
  let tail = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    if (show === "as it comes") await Deno.stdout.write(chunk);
    else kept.push(chunk);
    tail = (tail + decoder.decode(chunk, { stream: true })).slice(-4000);
  }
  const { code } = await child.status;
  clearTimeout(timer);
  for (const chunk of kept) await Deno.stdout.write(chunk);
  const summary = /(\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/.exec(
    tail,
  );
  const [passed = 0, failed = 0, skipped = 0] = (summary?.slice(1) ?? []).map((text) => Number(text ?? 0));
  // A run that died without a summary, or found nothing, has failed.
  const died = code !== 0 && failed === 0;
  return { passed, failed: failed + (died || passed + failed + skipped === 0 ? 1 : 0), skipped };
}

const { values } = parseArgs({ args: Deno.args, options: { only: { type: "string" } } });
const parts = PARTS.filter(({ name }) => values.only === undefined || name === values.only);
if (parts.length === 0) {
  console.error(`Cannot run "${values.only}": parts are ${PARTS.map(({ name }) => name).join(", ")}`);
  Deno.exit(2);
}
await installTools();
if (Deno.env.get("PADDOCK_ALPINE_ROOTFS") === undefined && isFile(ALPINE_BESIDE)) {
  Deno.env.set("PADDOCK_ALPINE_ROOTFS", ALPINE_BESIDE);
}
const all: Counts[] = [];
for (const part of parts) {
  const started = performance.now();
  const counts = await part.run();
  const seconds = Math.round((performance.now() - started) / 1000);
  console.log(
    `${part.name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped, ${seconds} s`,
  );
  // End-to-end tests that were skipped in CI prove nothing.
  if (part.name === "e2e" && counts.skipped > 0 && Deno.env.get("CI") === "true") {
    counts.failed += counts.skipped;
  }
  all.push(counts);
}
const total = sum(all);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
Deno.exit(total.failed === 0 ? 0 : 1);
