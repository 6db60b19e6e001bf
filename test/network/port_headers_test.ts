import assert from "node:assert/strict";
import { fromPortHeaders, toPortHeaders, toPortProtocols } from "../../src/network/port_headers.ts";

Deno.test("a guest's server learns nothing of who asks", () => {
  const headers = toPortHeaders(
    new Headers({
      authorization: "Bearer secret",
      cookie: "page=secret",
      host: "paddock.example",
      referer: "https://paddock.example/?token=secret",
      origin: "https://paddock.example",
      connection: "keep-alive, x-hop",
      "x-hop": "1",
      te: "trailers",
      "x-forwarded-for": "10.1.2.3",
      "x-paddock-principal": "{}",
      "x-own": "kept",
    }),
    3000,
  );
  assert.deepEqual([...headers], [
    ["accept-encoding", "identity"],
    ["host", "localhost:3000"],
    ["origin", "http://localhost:3000"],
    ["x-own", "kept"],
  ]);
});

Deno.test("a guest's server is offered no subprotocol of ours, and no token in one", () => {
  const offered = new Headers({
    "sec-websocket-protocol": "paddock, paddock.bearer.secret, vite-hmr,,other",
  });
  assert.deepEqual(toPortProtocols(offered), ["vite-hmr", "other"]);
  assert.deepEqual(toPortProtocols(new Headers()), []);
});

Deno.test("a guest's answer has no rights at our origin", () => {
  const headers = fromPortHeaders(
    new Headers([
      ["set-cookie", "session=stolen"],
      ["www-authenticate", "Basic"],
      ["clear-site-data", '"*"'],
      ["service-worker-allowed", "/"],
      ["access-control-allow-origin", "*"],
      ["content-security-policy", "default-src *"],
      ["transfer-encoding", "chunked"],
      ["content-type", "text/html"],
      ["etag", '"1"'],
    ]),
    { port: 80, prefix: "/p", path: "/" },
  );
  assert.deepEqual([...headers.keys()], [
    "content-security-policy",
    "content-type",
    "etag",
    "referrer-policy",
    "x-content-type-options",
  ]);
  const policy = headers.get("content-security-policy") ?? "";
  assert.ok(policy.startsWith("sandbox ") && !policy.includes("allow-same-origin"));
});

Deno.test("a guest's redirections stay below its own prefix, or lead away", () => {
  const place = { port: 3000, prefix: "/v1/sessions/x/ports/3000", path: "/a/b?q=1" };
  const led = (location: string): string | null =>
    fromPortHeaders(new Headers({ location }), place).get("location");
  assert.equal(led("/login?next=%2F"), "/v1/sessions/x/ports/3000/login?next=%2F");
  assert.equal(led("c#d"), "/v1/sessions/x/ports/3000/a/c#d");
  assert.equal(led("../../../../v1/tasks"), "/v1/sessions/x/ports/3000/v1/tasks");
  assert.equal(led("http://localhost:3000/x"), "/v1/sessions/x/ports/3000/x");
  assert.equal(led("http://127.0.0.1:8080/v1/tasks"), null);
  assert.equal(led("//other.example/x"), "http://other.example/x");
  assert.equal(led("http://[bad"), null);
});
