import assert from "node:assert/strict";
import { MAX_HELLO_BYTES, parseClientHello } from "../../src/network/client_hello.ts";
import { clientHello, serverName } from "../support/wire_messages.ts";

const plain = clientHello([serverName("api.example.com"), { type: 43, content: [2, 3, 4] }]);

/** A copy with bytes changed. */
function change(at: number, ...bytes: number[]): Uint8Array {
  const copy = plain.slice();
  copy.set(bytes, at);
  return copy;
}

Deno.test("parseClientHello() finds the name, in one record and in many", () => {
  const expected = { kind: "hello", serverName: "api.example.com", isEncrypted: false };
  assert.deepEqual(parseClientHello(plain), expected);
  assert.deepEqual(parseClientHello(clientHello([serverName("api.example.com")], 1)), expected);
  const earlyData = Uint8Array.from([...plain, 23, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
  assert.deepEqual(parseClientHello(earlyData), expected);
});

Deno.test("parseClientHello() wants more until all of it is there", () => {
  for (let length = 0; length < plain.length; length++) {
    assert.equal(parseClientHello(plain.subarray(0, length)).kind, "incomplete", `${length} bytes`);
  }
});

Deno.test("parseClientHello() sees an encrypted ClientHello, and that there is no name", () => {
  const ech = { type: 0xfe0d, content: [0, 0, 1, 0, 1, 5, 0, 0, 0, 0] };
  const found = parseClientHello(clientHello([serverName("public.example"), ech]));
  assert.deepEqual(found, { kind: "hello", serverName: "public.example", isEncrypted: true });
  assert.deepEqual(parseClientHello(clientHello([])), {
    kind: "hello",
    serverName: undefined,
    isEncrypted: false,
  });
});

Deno.test("parseClientHello() refuses what two readers could take for two things", () => {
  const name = serverName("a.example");
  const cases: [string, Uint8Array, RegExp][] = [
    ["a name twice", clientHello([name, serverName("b.example")]), /twice/],
    ["any extension twice", clientHello([name, { type: 9, content: [] }, { type: 9, content: [] }]), /twice/],
    [
      "two names in a list",
      clientHello([{ type: 0, content: [0, 8, 0, 0, 1, 97, 0, 0, 1, 98] }]),
      /malformed/,
    ],
    ["another kind of name", clientHello([{ type: 0, content: [0, 4, 1, 0, 1, 97] }]), /malformed/],
    ["something after the list", clientHello([{ type: 0, content: [0, 4, 0, 0, 1, 97, 0] }]), /malformed/],
    ["a list that is too short", clientHello([{ type: 0, content: [0, 9, 0, 0, 1, 97] }]), /beyond/],
    ["no handshake", change(0, 23), /not a handshake/],
    ["SSL 2", change(1, 2), /not a handshake/],
    ["an empty record", change(3, 0, 0), /wrong length/],
    ["a record that is too long", change(3, 0x40, 1), /wrong length/],
    ["a ServerHello", change(5, 2), /not a ClientHello/],
    ["a message that is too long", change(6, 1, 0, 0), /too long/],
    ["a session id into nowhere", change(43, 255), /beyond/],
    ["extensions into nowhere", change(50, 255, 255), /beyond/],
    ["something after the extensions", change(50, 0, 0), /follows/],
  ];
  for (const [what, bytes, reason] of cases) {
    const found = parseClientHello(bytes);
    assert.equal(found.kind, "bad", what);
    assert.match(found.kind === "bad" ? found.reason : "", reason, what);
  }
});

Deno.test("parseClientHello() does not wait for ever for a message in endless pieces", () => {
  const bytes = new Uint8Array(MAX_HELLO_BYTES + 6).fill(0);
  bytes.set([22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xff]);
  bytes.set([22, 3, 1, 0x40, 0], 5 + 0x4000);
  assert.equal(parseClientHello(bytes).kind, "bad");
});
