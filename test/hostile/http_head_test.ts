import assert from "node:assert/strict";
import {
  encodeRequestHead,
  MAX_HEAD_BYTES,
  parseRequestHead,
  type RequestHead,
} from "../../src/network/http_head.ts";

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));
const parse = (...lines: string[]): ReturnType<typeof parseRequestHead> =>
  parseRequestHead(bytes(`${lines.join("\r\n")}\r\n\r\n`));

function head(...lines: string[]): RequestHead {
  const parsed = parse(...lines);
  assert.ok(parsed.kind === "head", JSON.stringify(parsed));
  return parsed.head;
}

Deno.test("parseRequestHead() reads requests to servers, to proxies, and tunnels", () => {
  const plain = head("GET /a?b HTTP/1.1", "Host: Example.COM:80");
  assert.deepEqual([plain.method, plain.path, plain.isAbsolute], ["GET", "/a?b", false]);
  assert.deepEqual(plain.authority, { host: "example.com", port: 80 });
  const proxied = head("POST http://example.com?q HTTP/1.1", "host: example.com", "content-length: 12");
  assert.deepEqual([proxied.path, proxied.isAbsolute, proxied.bodyBytes], ["/?q", true, 12]);
  assert.deepEqual(head("CONNECT a.example:443 HTTP/1.1", "Host: a.example:443").tunnel, {
    host: "a.example",
    port: 443,
  });
  assert.equal(parseRequestHead(bytes("GET / HTTP/1.1\r\nHost: a")).kind, "incomplete");
});

Deno.test("encodeRequestHead() ends the connection after one request and keeps this hop's headers", () => {
  const lines = [
    ..."GET http://a.example/x HTTP/1.1|Host: a.example|Accept: */*|Connection: keep-alive, x".split("|"),
    ..."Keep-Alive: 5|Proxy-Connection: keep-alive|Proxy-Authorization: secret|Upgrade: h2c|TE: trailers"
      .split("|"),
  ];
  const text = new TextDecoder().decode(encodeRequestHead(head(...lines)));
  assert.equal(text, "GET /x HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nConnection: close\r\n\r\n");
});

Deno.test("parseRequestHead() refuses what servers understand in different ways", () => {
  const host = "Host: a.example";
  const cases: [string, string[], RegExp][] = [
    ["no Host", ["GET / HTTP/1.1"], /one Host/],
    ["two Hosts", ["GET / HTTP/1.1", host, "Host: b.example"], /one Host/],
    ["another Host than its target's", ["GET http://b.example/ HTTP/1.1", host], /differ/],
    ["another port than its target's", ["GET http://a.example:81/ HTTP/1.1", host], /differ/],
    ["a user in its target", ["GET http://a.example@b.example/ HTTP/1.1", host], /malformed/],
    ["a user in its Host", ["GET / HTTP/1.1", "Host: x@a.example"], /malformed/],
    ["two names in its Host", ["GET / HTTP/1.1", "Host: a.example, b.example"], /malformed/],
    ["another scheme", ["GET https://a.example/ HTTP/1.1", host], /not a path/],
    [
      "a length and chunks",
      ["POST / HTTP/1.1", host, "Content-Length: 3", "Transfer-Encoding: chunked"],
      /chunked/,
    ],
    ["chunks, hidden", ["POST / HTTP/1.1", host, "Transfer-Encoding: \tChUnKeD"], /chunked/],
    [
      "two lengths",
      ["POST / HTTP/1.1", host, "Content-Length: 3", "Content-Length: 3"],
      /length is malformed/,
    ],
    ["a list of lengths", ["POST / HTTP/1.1", host, "Content-Length: 3, 3"], /length is malformed/],
    ["a negative length", ["POST / HTTP/1.1", host, "Content-Length: -3"], /length is malformed/],
    ["a length in hex", ["POST / HTTP/1.1", host, "Content-Length: 0x3"], /length is malformed/],
    ["a folded header", ["GET / HTTP/1.1", host, " b.example"], /header is malformed/],
    ["a space before the colon", ["GET / HTTP/1.1", "Host : b.example", host], /header is malformed/],
    ["a bare line feed", ["GET / HTTP/1.1", `${host}\nHost: b.example`], /header is malformed/],
    ["a bare carriage return", ["GET / HTTP/1.1", `${host}\rX: y`], /header is malformed/],
    ["a NUL", ["GET / HTTP/1.1", host, "X: a\0b"], /header is malformed/],
    ["no colon", ["GET / HTTP/1.1", host, "nonsense"], /header is malformed/],
    ["an empty line first", ["", "GET / HTTP/1.1", host], /first line/],
    ["HTTP/2's preface", ["PRI * HTTP/2.0"], /first line/],
    ["HTTP/0.9", ["GET /"], /first line/],
    ["two spaces", ["GET  / HTTP/1.1", host], /first line/],
    ["a space in the target", ["GET /a b HTTP/1.1", host], /first line/],
    ["a small method", ["get / HTTP/1.1", host], /first line/],
    ["a port that is none", ["CONNECT a.example:99999 HTTP/1.1", host], /malformed/],
  ];
  for (const [what, lines, reason] of cases) {
    const parsed = parse(...lines);
    assert.equal(parsed.kind, "bad", what);
    assert.match(parsed.kind === "bad" ? parsed.reason : "", reason, what);
  }
});

Deno.test("parseRequestHead() takes no head without end and no headers without number", () => {
  const long = parseRequestHead(bytes(`GET / HTTP/1.1\r\nX: ${"a".repeat(MAX_HEAD_BYTES)}`));
  assert.deepEqual([long.kind, long.kind === "bad" && long.status], ["bad", 431]);
  const many = parse("GET / HTTP/1.1", "Host: a.example", ...Array<string>(300).fill("X: y"));
  assert.deepEqual([many.kind, many.kind === "bad" && many.status], ["bad", 431]);
});
