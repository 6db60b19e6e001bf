import assert from "node:assert/strict";
import { EgressPolicy } from "../../src/network/egress_policy.ts";
import type { NetworkDecision } from "../../src/network/network_decision.ts";
import { JournalError, verifyNetworkJournal } from "../../src/network/network_journal.ts";
import { NetworkLog, type NetworkSummary } from "../../src/network/network_log.ts";

const policy = new EgressPolicy({ mode: "proxy", allow: ["a.example"], profiles: [] });
const denial = (host: string): NetworkDecision => ({
  action: "denied",
  protocol: "dns",
  host,
  port: null,
  reason: "not in allow-list",
});

async function journalOf(
  use: (log: NetworkLog) => void,
): Promise<{ text: string; summary: NetworkSummary; told: NetworkDecision[] }> {
  const folder = await Deno.makeTempDir();
  try {
    const told: NetworkDecision[] = [];
    const path = `${folder}/network.jsonl`;
    const log = new NetworkLog({ path, policy, onFirst: (decision) => told.push(decision) });
    use(log);
    const summary = log.close();
    return { text: await Deno.readTextFile(path), summary, told };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a journal's chain holds, and ends where the summary says", async () => {
  const { text, summary } = await journalOf((log) => {
    log.add({
      action: "allowed",
      protocol: "tls",
      host: "a.example",
      port: 443,
      bytesToHost: 1,
      bytesToGuest: 2,
    });
    log.add(denial("b.example"));
    log.addModelRequest({
      action: "forwarded",
      method: "POST",
      path: "/responses",
      status: 200,
      responseBytes: 5,
      durationMs: 1,
    });
  });
  assert.deepEqual(verifyNetworkJournal(text), summary.journal);
  const types = text.trim().split("\n").map((line) => (JSON.parse(line) as { type: string }).type);
  assert.deepEqual(types, ["policy", "decision", "decision", "model"]);
  assert.deepEqual([summary.allowed, summary.denied, summary.policySha256], [1, 1, policy.digest]);
});

Deno.test("a journal that was changed, shortened, reordered or added to does not verify", async () => {
  const { text, summary } = await journalOf((log) =>
    ["x.example", "y.example", "z.example"].forEach((name) => log.add(denial(name)))
  );
  const lines = text.trim().split("\n");
  const join = (...some: (string | undefined)[]): string => `${some.join("\n")}\n`;
  const broken = [
    text.replace("x.example", "X.example"),
    join(lines[0], lines[2], lines[3]),
    join(lines[0], lines[2], lines[1], lines[3]),
    join(...lines, lines[3]),
    text.slice(0, -1),
    join(...lines, "{"),
  ];
  for (const [index, changed] of broken.entries()) {
    assert.throws(() => verifyNetworkJournal(changed), JournalError, `case ${index}`);
  }
  // The chain alone cannot show these two: the hash in the result does.
  for (const changed of [join(...lines.slice(0, 3)), join(...lines).replace("z.example", "a.example")]) {
    assert.notDeepEqual(verifyNetworkJournal(changed), summary.journal);
  }
});

Deno.test("what happens again and again is told once, written twice, and counted", async () => {
  const { text, summary, told } = await journalOf((log) => {
    for (let index = 0; index < 500; index++) log.add(denial("b.example"));
    log.add(denial("c.example"), 7);
  });
  assert.equal(told.length, 2);
  assert.deepEqual(summary.denials.map(({ host, count }) => [host, count]), [["b.example", 500], [
    "c.example",
    7,
  ]]);
  assert.equal(summary.denied, 507);
  assert.match(text, /"type":"repeated".*"count":500/);
  assert.equal(text.trim().split("\n").length, 5);
});

Deno.test("a guest that tries without end fills neither journal nor events", async () => {
  const { text, summary, told } = await journalOf((log) => {
    for (let index = 0; index < 5000; index++) log.add(denial(`n${index}.example`));
  });
  assert.equal(told.length, 200);
  assert.equal(summary.denials.length, 50);
  assert.equal(summary.denied, 5000);
  const lines = text.trim().split("\n");
  assert.equal(lines.length, 1002);
  assert.match(lines.at(-1) ?? "", /"type":"omitted","count":4000/);
  verifyNetworkJournal(text);
});

Deno.test("nothing is written after the end", async () => {
  const { text } = await journalOf((log) => {
    log.close();
    log.add(denial("late.example"));
  });
  assert.ok(!text.includes("late.example"));
});
