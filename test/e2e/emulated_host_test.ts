import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type EmulatedHost,
  emulatedHostStatus,
  execInEmulatedHost,
  startEmulatedHost,
  stopEmulatedHost,
} from "../../src/emulated/host.ts";
import { missingTools } from "../../src/images/host_tools.ts";

const missing = await missingTools("emulated-host");

async function run(
  host: EmulatedHost,
  argv: readonly string[],
  stdin = new Uint8Array(),
): Promise<{ code: number; out: Uint8Array; err: string }> {
  const child = execInEmulatedHost(host, { argv: [...argv], env: { MARK: "seen" }, cwd: "/" });
  const fed = new Response(stdin).body?.pipeTo(child.stdin);
  const [status, out, err] = await Promise.all([
    child.status,
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
    fed,
  ]);
  return { code: status.code, out, err };
}

/** Processes whose command line names `folder`. */
async function processesOf(folder: string): Promise<string[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid=,stat=,args="] }).output();
  const lines = new TextDecoder().decode(stdout).split("\n");
  return lines.filter((line) => line.includes(folder) && !/^\s*\d+ Z/.test(line));
}

async function untilNone(folder: string): Promise<void> {
  for (let i = 0; i < 100 && (await processesOf(folder)).length > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.deepEqual(await processesOf(folder), []);
}

const start = (): Promise<EmulatedHost> => startEmulatedHost({ onProgress: () => {} });

Deno.test({
  name: "the emulated host starts once, runs commands, is cleaned up after a kill, and stops without a trace",
  ignore: missing.length > 0,
  fn: async (test) => {
    const state = await Deno.makeTempDir({ prefix: "paddock-host-" });
    const before = Deno.env.get("PADDOCK_STATE");
    Deno.env.set("PADDOCK_STATE", state);
    try {
      await parts(test, state);
    } finally {
      await stopEmulatedHost();
      if (before === undefined) Deno.env.delete("PADDOCK_STATE");
      else Deno.env.set("PADDOCK_STATE", before);
      await Deno.remove(state, { recursive: true });
    }
  },
});

async function parts(test: Deno.TestContext, state: string): Promise<void> {
  let host: EmulatedHost = { url: "", token: "" };

  await test.step("two starts at the same time give one host", async () => {
    assert.deepEqual(await emulatedHostStatus(), { running: false });
    const [one, two] = await Promise.all([start(), start()]);
    assert.deepEqual(one, two);
    host = one;
    const status = await emulatedHostStatus();
    assert.equal(status.running, true);
    assert.equal(status.url, host.url);
    const { mode } = await Deno.stat(join(state, "emulated-host/token"));
    assert.equal((mode ?? 0) & 0o777, 0o600);
  });

  await test.step("it has a KVM, a TUN device, and the source tree, which it cannot write", async () => {
    const script =
      "test -c /dev/kvm && test -c /dev/net/tun && test -f /paddock/deno.json && ! touch /paddock/x 2>/dev/null && ! touch /var/cache/paddock/x 2>/dev/null && echo $MARK";
    const result = await run(host, ["sh", "-c", script]);
    assert.equal(new TextDecoder().decode(result.out), "seen\n");
  });

  await test.step("nothing runs on CPU 0, whose virtualization state QEMU loses", async () => {
    const script = "grep Cpus_allowed_list /proc/self/status; nproc";
    const { out } = await run(host, ["sh", "-c", script]);
    const [, first = "", cpus = ""] = /\t(\d+)-\d+\n(\d+)\n$/.exec(new TextDecoder().decode(out)) ?? [];
    assert.equal(first, "1");
    assert.ok(Number(cpus) >= 2);
  });

  await test.step("exec carries streams of any size, keeps them apart, and gives the exit code", async () => {
    const data = new Uint8Array(3_000_000).map((_, index) => index * 31 & 0xff);
    const result = await run(host, ["sh", "-c", "cat; echo problem >&2; exit 9"], data);
    assert.deepEqual([result.code, result.err, result.out.length], [9, "problem\n", data.length]);
    assert.ok(result.out.every((byte, index) => byte === data[index]));
  });

  await test.step("exec of a missing program fails, and a kill ends a command's children too", async () => {
    await assert.rejects(run(host, ["no-such-program"]), /no-such-program/);
    const child = execInEmulatedHost(host, { argv: ["sh", "-c", "sleep 4242 & echo up; wait"] });
    await child.stdout.getReader().read();
    child.kill();
    await assert.rejects(child.status, /Lost the emulated host/);
    const left = await run(host, [
      "sh",
      "-c",
      "for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -x sleep > /dev/null || exit 0; sleep 0.3; done; exit 1",
    ]);
    assert.equal(left.code, 0);
  });

  await test.step("a request without the token is refused", async () => {
    for (const path of ["/host/info", "/host/exec", "/v1/tasks"]) {
      const answer = await fetch(host.url + path, { headers: { authorization: "Bearer wrong" } });
      await answer.body?.cancel();
      assert.equal(answer.status, 401, path);
    }
  });

  await test.step("killing its supervisor ends QEMU and virtiofsd, and the next start cleans up", async () => {
    const { pid } = await emulatedHostStatus();
    Deno.kill(pid ?? 0, "SIGKILL");
    await untilNone(state);
    assert.equal((await emulatedHostStatus()).running, false);
    const again = await start();
    assert.notEqual(again.token, host.token);
    host = again;
  });

  await test.step("a pid that now belongs to another process is not taken for the host", async () => {
    await stopEmulatedHost();
    await untilNone(state);
    await Deno.writeTextFile(join(state, "emulated-host/pid"), String(Deno.pid));
    assert.equal((await emulatedHostStatus()).running, false);
    await stopEmulatedHost();
  });
}
