import assert from "node:assert/strict";
import { openTaskService } from "../../src/api/task_service.ts";
import { natHostInterface } from "../../src/network/nat_link.ts";
import { namespaceName } from "../../src/network/session_network.ts";
import { Random } from "../support/random.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";

/** `PADDOCK_KILLS=200` for as many; these few are enough to notice that something was broken. */
const KILLS = Number(Deno.env.get("PADDOCK_KILLS") ?? 20);
const SEED = Number(Deno.env.get("PADDOCK_SEED") ?? 20261122);

const TARGET = new URL("../support/kill_target.ts", import.meta.url).pathname;
const PERMISSIONS = ["read", "write", "run", "net", "env", "sys"].map((name) => `--allow-${name}`);
const isRoot = Deno.uid() === 0;

async function hasWholeHost(): Promise<boolean> {
  try {
    await Deno.stat("/dev/kvm");
    await Deno.stat("/dev/net/tun");
    return isRoot;
  } catch {
    return false;
  }
}

async function shell(script: string): Promise<string[]> {
  const args = ["-c", `PATH=$PATH:/usr/sbin:/sbin; ${script}; true`];
  const { stdout } = await new Deno.Command("sh", { args, stdin: "null", stderr: "null" }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
}

/** What the sessions of a state folder have on the host, besides files: other tests have theirs beside them. */
interface Holdings {
  readonly namespaces: readonly string[];
  readonly pids: readonly string[];
}

async function holdings(stateDir: string): Promise<Holdings> {
  const ids = await shell(`ls "${stateDir}/sessions"`);
  const namespaces = ids.filter((id) => !id.startsWith("new-")).map(namespaceName);
  const pids = await Promise.all(namespaces.map((name) => shell(`ip netns pids ${name}`)));
  return { namespaces, pids: pids.flat() };
}

/** What is still there of what was there before the next server looked. */
async function left(stateDir: string, { namespaces, pids }: Holdings): Promise<string[]> {
  const files = await shell(`cd "${stateDir}"; ls -A sessions tasks uploads kept owners | grep -v ':$'`);
  const existing = await shell("ip netns list; ip -o link; nft list tables");
  const names = namespaces.flatMap((name) => [name, natHostInterface(name)]);
  const found = names.filter((name) => existing.some((line) => line.includes(name)));
  const alive = await Promise.all(pids.map((pid) => shell(`tr '\\0' ' ' < /proc/${pid}/cmdline`)));
  return [...files, ...found, ...alive.flat()];
}

/** Starts the target with its stdout piped. */
function startTarget(args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", ...PERMISSIONS, TARGET, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

/** Kills the target once its VM runs; gives how long it took to get there, in `ms`. */
async function timeToVm(args: readonly string[]): Promise<number> {
  const start = performance.now();
  const child = startTarget(args);
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    text += decoder.decode(chunk);
    if (!text.includes('"vm_start"')) continue;
    const ms = performance.now() - start;
    child.kill("SIGKILL");
    await child.status;
    return ms;
  }
  throw new Error(`The target ended by itself: ${text}`);
}

/** Runs the target for that long; gives the steps that its session came to. */
async function killAfter(ms: number, args: readonly string[]): Promise<string[]> {
  const child = startTarget(args);
  const timer = setTimeout(() => child.kill("SIGKILL"), ms);
  const text = await new Response(child.stdout).text();
  await child.status;
  clearTimeout(timer);
  return [...text.matchAll(/"phase":"([a-z_]+)"/g)].map(([, phase = ""]) => phase);
}

Deno.test({
  name: "kill -9 of a server at any moment of a session's start leaves nothing once the next has looked",
  ignore: !await hasWholeHost(),
  sanitizeResources: false,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir();
    const [state, kernel, disk] = [`${folder}/s`, `${folder}/kernel`, `${folder}/disk`];
    await Deno.writeFile(kernel, elfOf(Uint8Array.from(asm.spin)));
    await Deno.writeFile(disk, new Uint8Array(1024 * 1024));
    const random = new Random(SEED);
    const modes = ["none", "proxy", ...(await forwardsPackets() ? ["nat"] : [])];
    const reached = new Map<string, number>();
    try {
      const vmMs = Math.round(await timeToVm([state, kernel, disk, "proxy"]));
      for (let kill = 1; kill <= KILLS; kill++) {
        const mode = modes[random.below(modes.length)] ?? "none";
        // The first third loads the program: nothing is made yet
        const ms = Math.round(vmMs / 3) + random.below(vmMs);
        const phases = await killAfter(ms, [state, kernel, disk, mode]);
        const last = phases.at(-1) ?? "before the session";
        reached.set(last, (reached.get(last) ?? 0) + 1);
        const held = await holdings(state);
        await (await openTaskService({ stateDir: state })).close();
        assert.deepEqual(
          await left(state, held),
          [],
          `kill ${kill} of seed ${SEED}: after ${ms} ms in mode ${mode}`,
        );
      }
      console.log([...reached].map(([step, count]) => `${count} after ${step}`).join(", "));
      assert.ok((reached.get("vm_start") ?? 0) > 0, "no kill came while a VM ran");
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

async function forwardsPackets(): Promise<boolean> {
  const { stdout } = await new Deno.Command("sysctl", { args: ["-n", "net.ipv4.ip_forward"], stderr: "null" })
    .output().catch(() => ({ stdout: new Uint8Array() }));
  return new TextDecoder().decode(stdout).trim() === "1";
}
