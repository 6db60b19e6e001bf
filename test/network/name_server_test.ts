import assert from "node:assert/strict";
import { EgressPolicy } from "../../src/network/egress_policy.ts";
import { NameServer } from "../../src/network/name_server.ts";
import { describeDecision, type NetworkDecision } from "../../src/network/network_decision.ts";
import { dnsQuery } from "../support/wire_messages.ts";

function serverFor(...allow: string[]): { server: NameServer; decisions: NetworkDecision[] } {
  const decisions: NetworkDecision[] = [];
  const policy = new EgressPolicy({ mode: "proxy", allow, profiles: [] });
  return {
    decisions,
    server: new NameServer({ policy, onDecision: (decision) => decisions.push(decision) }),
  };
}

/** Response code, number of answers, and the last four bytes. */
function read(answer: Uint8Array | undefined): { rcode: number; count: number; tail: number[] } {
  assert.ok(answer !== undefined);
  return { rcode: (answer[3] ?? 0) & 15, count: answer[7] ?? 0, tail: [...answer.slice(-4)] };
}

Deno.test("an allowed name is at the proxy, for five seconds, and has no other record", () => {
  const { server, decisions } = serverFor("api.example.com");
  const answer = server.answer(dnsQuery("API.example.com", 1));
  assert.deepEqual(read(answer), { rcode: 0, count: 1, tail: [172, 30, 0, 1] });
  assert.deepEqual([...answer?.slice(-10, -6) ?? []], [0, 0, 0, 5], "TTL");
  // AAAA, HTTPS (its record would hold keys for an encrypted ClientHello), SVCB, TXT, ANY
  for (const type of [28, 65, 64, 16, 255]) {
    const { rcode, count } = read(server.answer(dnsQuery("api.example.com", type)));
    assert.deepEqual([rcode, count], [0, 0], `type ${type}`);
  }
  assert.deepEqual(decisions, []);
});

Deno.test("any other name does not exist, which is a decision", () => {
  const { server, decisions } = serverFor("example.com", "*.example.org");
  const names = [
    "example.net",
    "sub.example.com",
    "example.org",
    "aGVsbG8.tunnel.example",
    "localhost",
    "1.30.0.172",
  ];
  for (const name of names) assert.equal(read(server.answer(dnsQuery(name, 1))).rcode, 3, name);
  const lines = decisions.map(describeDecision);
  assert.equal(lines[0], "denied: example.net (not in allow-list; allow with --allow example.net)");
  assert.equal(lines[4], "denied: localhost (not a public host name)");
  assert.equal(lines.length, names.length);
});

Deno.test("bytes in a name are printable in the decision about it", () => {
  const { server, decisions } = serverFor();
  assert.equal(read(server.answer(dnsQuery("\x1b[2Jevil\n.example", 1))).rcode, 3);
  assert.equal(decisions[0]?.host, "\\027[2Jevil\\010.example");
});

Deno.test("a flood of queries is refused, with one kind of decision", () => {
  const { server, decisions } = serverFor("example.com");
  const codes = Array.from({ length: 1000 }, () => read(server.answer(dnsQuery("example.com", 1))).rcode);
  assert.ok(codes.filter((code) => code === 5).length >= 500, "refused");
  assert.equal(new Set(decisions.map(describeDecision)).size, 1);
});

Deno.test("what is not a plain question is turned down, and what is no query gets no answer", () => {
  const { server } = serverFor("example.com");
  const plain = dnsQuery("example.com", 1);
  const change = (at: number, ...bytes: number[]): Uint8Array => {
    const copy = plain.slice();
    copy.set(bytes, at);
    return copy;
  };
  assert.equal(server.answer(new Uint8Array(11)), undefined, "too short");
  assert.equal(server.answer(change(2, 0x80)), undefined, "a response");
  const cases: [string, Uint8Array, number][] = [
    ["no question", change(5, 0), 1],
    ["two questions", change(5, 2), 1],
    ["an answer", change(7, 1), 1],
    ["two additional records", change(11, 2), 1],
    ["another operation", change(2, 0x28), 5],
    ["compression", change(12, 0xc0, 0x0c), 1],
    ["a name into nowhere", change(12, 63), 1],
    ["an extended label", change(12, 0x41), 1],
    ["another class", change(plain.length - 1, 3), 5],
    ["no type", plain.slice(0, -3), 1],
    ["too long", Uint8Array.from([...plain, ...new Uint8Array(2000)]), 1],
    ["a name of over 255 bytes", dnsQuery(Array(5).fill("a".repeat(60)).join("."), 1), 1],
  ];
  for (const [what, message, rcode] of cases) {
    const answer = read(server.answer(message));
    assert.deepEqual([answer.rcode, answer.count], [rcode, 0], what);
  }
});
