import assert from "node:assert/strict";
import type { ResultDocument } from "../../src/local/run_local_task.ts";
import { describeDecision } from "../../src/network/network_decision.ts";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import { assertNothingLeft, hostKind, onVmHost, sandbox, withFolder } from "../support/sandbox_cli.ts";

/** For documentation (RFC 5737): nobody is there but what this test puts there. */
const ADDRESS = "203.0.113.10";
const NAME = "shop.example.org";
const WORLD = "world-of-test";

/** A namespace with a web server at a public-looking address, and its name; only on a machine of our own making. */
const ignore = await hostKind() !== "emulated";
const suffix = ignore ? " (skipped: changes the host's routes and names, so only in the emulated host)" : "";

const OPEN_WORLD = `ip netns add ${WORLD}
  ip link add worldtest type veth peer name eth0 netns ${WORLD}
  ip addr add 203.0.113.1/24 dev worldtest; ip link set worldtest up
  ip netns exec ${WORLD} sh -c 'ip link set lo up; ip addr add ${ADDRESS}/24 dev eth0; ip link set eth0 up'
  echo 'printf "HTTP/1.0 200 OK\\r\\n\\r\\nhello from the world to $SOCAT_PEERADDR\\n"' > /run/world_answer.sh
  setsid ip netns exec ${WORLD} socat TCP4-LISTEN:80,fork,reuseaddr SYSTEM:'sh /run/world_answer.sh' > /dev/null 2>&1 < /dev/null &
  until ip netns exec ${WORLD} ss -ltn | grep -q ':80 '; do sleep 0.1; done
  echo '${ADDRESS} ${NAME}' >> /etc/hosts`;
const CLOSE_WORLD =
  `for pid in $(ip netns pids ${WORLD}); do kill -9 $pid; done; ip link del worldtest; ip netns del ${WORLD}
  grep -v ' ${NAME}$' /etc/hosts > /tmp/hosts.new; cat /tmp/hosts.new > /etc/hosts; rm /tmp/hosts.new /run/world_answer.sh`;

/** What an agent in a VM prints that runs a command with these options, and what becomes known of its network. */
async function runInWorld(
  command: string,
  options: readonly string[],
): Promise<{ output: string; lines: string; result: ResultDocument }> {
  const server = startModelServer();
  try {
    return await withWorldFolder(async (folder) => {
      const prefix = scriptPrefix({ commands: [command], finalText: "Looked." });
      const { code, stdout, stderr } = await sandbox(
        [
          "run",
          "codex",
          "look",
          "--out",
          `${folder}/out`,
          "--json",
          "--model-url",
          `${server.url}${prefix}/v1`,
          ...options,
        ],
        { OPENAI_API_KEY: "sk-e2e" },
      );
      assert.equal(code, 0, stdout + stderr);
      const output = stdout.split("\n").filter((line) => line.includes('"type":"tool_result"'))
        .map((line) => (JSON.parse(line) as { event: { output: string } }).event.output).join("\n");
      const journal = await Deno.readTextFile(`${folder}/out/network.jsonl`);
      const lines = journal.split("\n").filter((line) =>
        line.includes('"decision":') && !line.includes('"model"')
      )
        .map((line) => describeDecision(JSON.parse(line).decision)).join("\n");
      return { output, lines, result: JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) };
    });
  } finally {
    await server.close();
  }
}

async function withWorldFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  let found: T | undefined;
  await onVmHost(OPEN_WORLD);
  try {
    await withFolder(async (folder) => void (found = await use(folder)));
  } finally {
    await onVmHost(CLOSE_WORLD);
  }
  return found as T;
}

Deno.test({
  name: `an agent fetches from an allowed name, and from no other${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const { output, lines, result } = await runInWorld(
      `wget -T 20 -qO- http://${NAME}/; wget -T 5 -qO- http://${ADDRESS}/ || echo no address`,
      ["--allow", NAME],
    );
    assert.match(output, /hello from the world/);
    assert.match(output, /no address/);
    assert.match(lines, /^allowed: shop\.example\.org:80$/m);
    assert.match(lines, /^denied: 203\.0\.113\.10:80 \(TCP to an address/m);
    assert.equal(result.network?.allowed, 1);
    await assertNothingLeft(30_000);
  },
});

Deno.test({
  name:
    `in mode nat an agent reaches the world by name, address and ping, and not the host or its neighbours${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const { output, lines, result } = await runInWorld(
      `wget -T 20 -qO- http://${NAME}/; ping -c 1 -W 5 ${ADDRESS} && echo ponged
      for inner in 203.0.113.1 10.0.2.15 10.0.2.2 169.254.169.254; do
        timeout 10 bash -c "exec 3<>/dev/tcp/$inner/22" 2>/dev/null && echo CONNECTED $inner; done; echo looked`,
      ["--network", "nat"],
    );
    assert.match(output, /hello from the world to 203\.0\.113\.1\n/, lines);
    assert.match(output, /ponged/);
    assert.match(output, /looked/);
    assert.doesNotMatch(output, /CONNECTED/);
    assert.equal(result.network?.mode, "nat");
    assert.match(lines, /^allowed: 203\.0\.113\.10:80 \(TCP\)$/m);
    assert.match(lines, /^allowed: 203\.0\.113\.10 \(ICMP\)$/m);
    assert.match(lines, /^allowed: shop\.example\.org \(is 203\.0\.113\.10\)$/m);
    for (const inner of ["203.0.113.1", "10.0.2.15", "10.0.2.2", "169.254.169.254"]) {
      assert.ok(lines.includes(`denied: ${inner}:22 (TCP`), lines);
    }
    await assertNothingLeft(30_000);
  },
});
