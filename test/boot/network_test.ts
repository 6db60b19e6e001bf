import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import type { NetConfig } from "../../src/vmm/protocol.ts";
import { run } from "../support/command.ts";
import { LinuxVm, type LinuxVmOptions } from "../support/linux_vm.ts";
import { Random } from "../support/random.ts";

const MIB = 1024 * 1024;
const GUEST = "172.30.0.2";
const HOST = "172.30.0.1";

/** A guest, and the namespace that its TAP device `tap7` is in. */
interface Wired {
  readonly vm: LinuxVm;
  /** a folder for files */
  readonly folder: string;
  /** runs a program in the namespace */
  inside(...command: string[]): string;
  /** moves bytes between two addresses of socat, from the first to the second */
  socat(from: string, to: string): Deno.ChildProcess;
}

/** A guest at {@linkcode GUEST} on a TAP device at {@linkcode HOST}, in a network namespace of their own. */
async function withNetwork(
  options:
    & { readonly net?: Omit<NetConfig, "tap">; readonly tapWords?: string[] }
    & Pick<LinuxVmOptions, "cpus">,
  test: (wired: Wired) => Promise<void>,
): Promise<void> {
  const { net = {}, tapWords = [], ...others } = options;
  const namespace = `pdk-test-${Deno.pid}`;
  const folder = await Deno.makeTempDir({ prefix: "paddock-net-" });
  run("ip", ["netns", "add", namespace]);
  try {
    const inside = (...command: string[]): string => run("ip", ["netns", "exec", namespace, ...command]);
    const socat = (from: string, to: string): Deno.ChildProcess =>
      new Deno.Command("ip", { args: ["netns", "exec", namespace, "socat", "-u", from, to] }).spawn();
    inside("ip", "tuntap", "add", "tap7", "mode", "tap", "vnet_hdr", ...tapWords);
    inside("ip", "addr", "add", `${HOST}/30`, "dev", "tap7");
    inside("ip", "link", "set", "tap7", "up");
    const words = `paddock.ip=${GUEST}/30`;
    const bootTimeoutMs = 120_000;
    await using vm = await LinuxVm.boot({
      namespace,
      net: { tap: "tap7", ...net },
      words,
      bootTimeoutMs,
      ...others,
    });
    await test({ vm, folder, inside, socat });
  } finally {
    run("ip", ["netns", "del", namespace]);
    await Deno.remove(folder, { recursive: true });
  }
}

async function sha256(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(digest).toHex();
}

/** Sends a file to a port of the guest, which writes it to a file of its own; gives what both sum up to. */
async function sendToGuest({ vm, socat }: Wired, path: string, port: number): Promise<[string, string]> {
  const listening = vm.sh(`nc -l -p ${port} > /root/got-${port}; sha256sum < /root/got-${port}`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  ok((await socat(`OPEN:${path}`, `TCP:${GUEST}:${port}`).status).success);
  return [(await listening).output.split(" ")[0] ?? "", await sha256(path)];
}

/** Sends a file of the guest to a port of the host; gives what arrives. */
async function sendToHost({ vm, socat, folder }: Wired, path: string, port: number): Promise<string> {
  const back = join(folder, `back-${port}`);
  const receiver = socat(`TCP-LISTEN:${port},bind=${HOST}`, `CREATE:${back}`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const { exitCode, output } = await vm.sh(`nc ${HOST} ${port} < ${path}`);
  equal(exitCode, 0, output);
  ok((await receiver.status).success);
  return await sha256(back);
}

Deno.test("a guest and its host's TAP device talk, inside a namespace of their own", async () => {
  await withNetwork({ net: { mac: "06:00:ac:1e:00:02" } }, async ({ vm, inside }) => {
    match((await vm.sh("cat /sys/class/net/eth0/address")).output, /06:00:ac:1e:00:02/);
    match(inside("ping", "-c", "5", "-i", "0.2", "-W", "5", GUEST), /5 received/);
    match(inside("ping", "-c", "2", "-s", "1400", "-W", "5", GUEST), /2 received/);
  });
});

Deno.test("20 MB go through TCP unchanged each way, in segments longer than a frame", async () => {
  await withNetwork({ net: { mtu: 1400 } }, async (wired) => {
    const { vm, folder } = wired;
    equal((await vm.sh("cat /sys/class/net/eth0/mtu")).output, "1400\n");
    const path = join(folder, "sent");
    await Deno.writeFile(path, new Random(20).bytes(20 * MIB));
    const [got, sent] = await sendToGuest(wired, path, 7001);
    equal(got, sent);
    const received = Number((await vm.sh("cat /sys/class/net/eth0/statistics/rx_packets")).output);
    // 20 MB in frames of 1400 bytes are 15,000
    ok(received < 5000, `${received} packets`);
    equal(await sendToHost(wired, "/root/got-7001", 7002), sent);
  });
});

Deno.test("a guest with 4 vCPUs has 4 pairs of queues, and 4 streams each way arrive unchanged", async () => {
  await withNetwork({ cpus: 4, tapWords: ["multi_queue"] }, async (wired) => {
    const { vm, folder, inside } = wired;
    const queues = (await vm.sh("ls /sys/class/net/eth0/queues")).output.trim().split(/\s+/);
    deepEqual(queues, ["rx-0", "rx-1", "rx-2", "rx-3", "tx-0", "tx-1", "tx-2", "tx-3"]);
    // The driver asked for all of them, and the TAP device gives packets to so many.
    match(inside("ip", "-d", "link", "show", "tap7"), /multi_queue numqueues 4 numdisabled 0/);
    const streams = Array.from({ length: 4 }, async (_, index) => {
      const path = join(folder, `sent-${index}`);
      await Deno.writeFile(path, new Random(400 + index).bytes(4 * MIB));
      const [got, sent] = await sendToGuest(wired, path, 7100 + index);
      equal(got, sent, `stream ${index} to the guest`);
      equal(await sendToHost(wired, `/root/got-${7100 + index}`, 7200 + index), sent, `stream ${index} back`);
    });
    await Promise.all(streams);
  });
});

Deno.test("a guest with 2 vCPUs on a TAP device that was made with one queue has one pair, and talks", async () => {
  await withNetwork({ cpus: 2 }, async ({ vm, inside }) => {
    equal((await vm.sh("ls /sys/class/net/eth0/queues | wc -l")).output, "2\n");
    match(inside("ping", "-c", "3", "-i", "0.2", "-W", "5", GUEST), /3 received/);
  });
});

Deno.test("a guest sees its cable pulled out and plugged in again", async () => {
  await withNetwork({}, async ({ vm, inside }) => {
    const untilCarrier = async (wanted: string): Promise<void> => {
      let carrier = "";
      for (let tries = 0; tries < 20 && carrier !== wanted; tries++) {
        carrier = (await vm.sh("cat /sys/class/net/eth0/carrier")).output.trim();
      }
      equal(carrier, wanted);
    };
    await untilCarrier("1");
    await vm.vmm.send({ type: "link", up: false });
    await untilCarrier("0");
    const lost = run("ip", [
      "netns",
      "exec",
      `pdk-test-${Deno.pid}`,
      "ping",
      "-c",
      "2",
      "-i",
      "0.2",
      "-W",
      "1",
      GUEST,
    ], [1]);
    match(lost, /0 received/);
    await vm.vmm.send({ type: "link", up: true });
    await untilCarrier("1");
    match(inside("ping", "-c", "3", "-i", "0.2", "-W", "5", GUEST), /3 received/);
  });
});
