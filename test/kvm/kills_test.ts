import assert from "node:assert/strict";
import { openTaskService } from "../../src/api/task_service.ts";
import { Random } from "../support/random.ts";
import { STATE_LEFTOVERS } from "../support/sandbox_cli.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";

/** `PADDOCK_KILLS=200` for as many; these few are enough to notice that something was broken. */
const KILLS = Number(Deno.env.get("PADDOCK_KILLS") ?? 20);
const SEED = Number(Deno.env.get("PADDOCK_SEED") ?? 20261122);

const TARGET = new URL("../support/kill_target.ts", import.meta.url).pathname;
const PERMISSIONS = ["read", "write", "run", "net", "env", "sys"].map((name) => `--allow-${name}`);
/** A rate of packets is no table of a session's. */
const HOST_LEFTOVERS = `${STATE_LEFTOVERS}
  nft list tables 2>/dev/null | grep pdk; ip -o link | grep pdk; ls -A "$STATE/owners"; true`;

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

async function left(stateDir: string): Promise<string> {
  const script = `export PATH=$PATH:/usr/sbin:/sbin STATE="${stateDir}"; ${HOST_LEFTOVERS}`;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script], stdin: "null" }).output();
  return new TextDecoder().decode(stdout).trim();
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
        await (await openTaskService({ stateDir: state })).close();
        assert.equal(await left(state), "", `kill ${kill} of seed ${SEED}: after ${ms} ms in mode ${mode}`);
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
