import assert from "node:assert/strict";
import type { TaskRunner } from "../../src/api/task_service.ts";
import { SCOPES } from "../../src/api/principal.ts";
import { TASK_FILES } from "../../src/session/task_files.ts";
import { tarEnd, tarHeader, type TarMember, tarPadding } from "../../src/session/tar_writer.ts";
import { ModelCredentials } from "../../src/session/model_access.ts";
import { lostResult } from "../../src/session/task.ts";
import { type TestService, type TestServiceOptions, withService } from "../support/service.ts";

/** A runner in place of a VM: it waits until it is cancelled. */
const waitingRunner: TaskRunner = async ({ signal }) => {
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  return lostResult("cancelled");
};

function testService(
  name: string,
  use: (setup: TestService) => Promise<void>,
  options: Partial<TestServiceOptions> = {},
): void {
  Deno.test(name, () => withService({ runner: waitingRunner, ...options }, use));
}

async function statusOf(response: Promise<Response>): Promise<number> {
  const { status, body } = await response;
  await body?.cancel();
  return status;
}

function submission(change: Record<string, unknown> = {}): RequestInit {
  return {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ agent: "codex", prompt: "do it", ...change }),
  };
}

async function submit({ ask }: TestService, token: string): Promise<string> {
  const response = await ask(token, "/v1/tasks", submission());
  assert.equal(response.status, 202);
  return (await response.json() as { id: string }).id;
}

const ROUTES: readonly [string, string][] = [
  ["GET", "/v1/tasks"],
  ["POST", "/v1/tasks"],
  ["GET", "/v1/tasks/x"],
  ["DELETE", "/v1/tasks/x"],
  ["GET", "/v1/tasks/x/events"],
  ["GET", "/v1/tasks/x/result"],
  ["GET", "/v1/tasks/x/workspace"],
  ["POST", "/v1/tasks/x/cancel"],
  ["POST", "/v1/uploads"],
  ["GET", "/v1/sessions"],
  ["GET", "/v1/sessions/x/files?path=/"],
  ["GET", "/metrics"],
  ["POST", "/mcp"],
  ["GET", "/v1"],
  ["GET", "/nowhere"],
];

testService(
  "without a valid token there is nothing, and the answer says how to come with one",
  async (setup) => {
    const good = setup.token();
    const wrong = good.slice(0, -1) + (good.endsWith("A") ? "B" : "A");
    for (const [method, path] of ROUTES) {
      for (const token of [null, "", wrong, "x", good.slice(4)]) {
        const response = await setup.ask(token, path, { method });
        // Enough of these are refused for their number
        if (response.status !== 429) {
          assert.equal(response.status, 401, `${method} ${path} with ${token}`);
          assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer realm="paddock"/);
        }
        await response.body?.cancel();
      }
    }
    assert.equal(await statusOf(setup.ask(good, "/v1/tasks")), 200);
  },
);

testService("a token is taken from the Authorization header and from nowhere else", async (setup) => {
  const token = setup.token();
  const headers: Record<string, string>[] = [
    { cookie: `token=${token}; authorization=Bearer ${token}` },
    { authorization: `Basic ${btoa(`x:${token}`)}` },
    { authorization: token },
    { "proxy-authorization": `Bearer ${token}` },
    { "sec-websocket-protocol": `paddock, paddock.bearer.${token}` },
  ];
  for (const each of headers) {
    assert.equal(await statusOf(setup.ask(null, "/v1/tasks", { headers: each })), 401, JSON.stringify(each));
  }
  assert.equal(await statusOf(setup.ask(null, `/v1/tasks?token=${token}&access_token=${token}`)), 401);
  assert.equal(await statusOf(setup.ask(token, "/v1/tasks")), 200);
});

testService("a token that expires or is revoked is refused from that moment on", async (setup) => {
  const short = setup.token({ expiresAt: new Date(Date.now() + 400).toISOString() });
  const revoked = setup.token();
  const [, id = ""] = revoked.split("_");
  assert.equal(await statusOf(setup.ask(short, "/v1/tasks")), 200);
  assert.equal(await statusOf(setup.ask(revoked, "/v1/tasks")), 200);
  setup.tokens.revoke(id);
  await new Promise((resolve) => setTimeout(resolve, 450));
  for (const [token, word] of [[short, "expired"], [revoked, "revoked"]] as const) {
    const response = await setup.ask(token, "/v1/tasks");
    assert.equal(response.status, 401);
    assert.match((await response.json() as { detail: string }).detail, new RegExp(word));
  }
});

testService("a token does what its scopes say and nothing else", async (setup) => {
  const needs: readonly [string, string, string][] = [
    ["GET", "/v1/tasks", "tasks:read"],
    ["POST", "/v1/tasks", "tasks:write"],
    ["DELETE", "/v1/tasks/x", "tasks:write"],
    ["POST", "/v1/tasks/x/cancel", "tasks:write"],
    ["PUT", "/v1/tasks/x/credentials", "tasks:write"],
    ["POST", "/v1/uploads", "tasks:write"],
    ["GET", "/v1/sessions", "sessions:read"],
    ["GET", "/v1/sessions/x/files?path=/", "sessions:read"],
    ["PUT", "/v1/sessions/x/files?path=/", "sessions:write"],
    ["GET", "/v1/sessions/x/exec", "sessions:write"],
    ["GET", "/v1/sessions/x/ports/80", "sessions:write"],
    ["DELETE", "/v1/sessions/x", "sessions:write"],
    ["GET", "/metrics", "metrics:read"],
  ];
  for (const [method, path, scope] of needs) {
    const others = SCOPES.filter((name) => name !== scope && name !== "admin");
    const response = await setup.ask(setup.token({ scopes: others }), path, { method });
    const { code, detail } = await response.json() as { code: string; detail: string };
    assert.deepEqual([response.status, code], [403, "forbidden"], `${method} ${path}`);
    assert.match(detail, new RegExp(scope));
    for (const enough of [scope, "admin"]) {
      const allowed = await statusOf(setup.ask(setup.token({ scopes: [enough] }), path, { method }));
      assert.ok(allowed !== 401 && allowed !== 403, `${method} ${path} with ${enough}: ${allowed}`);
    }
  }
  assert.equal(await statusOf(setup.ask(setup.token(), "/v1/no-such-thing")), 403);
  assert.equal(await statusOf(setup.ask(setup.token({ scopes: ["admin"] }), "/v1/no-such-thing")), 404);
});

testService("no spelling of a path leads past the scope that it takes", async (setup) => {
  const reader = setup.token({ scopes: ["sessions:read"] });
  const paths = [
    "/v1/tasks",
    "/v1/%74asks",
    "/%76%31/tasks",
    "/v1//tasks",
    "//v1/tasks",
    "/v1/sessions/../tasks",
    "/v1/sessions/%2e%2e/tasks",
    "/v1/sessions/..%2ftasks",
    "/v1/sessions%2f..%2ftasks",
    "/v1/TASKS",
    "/v1/tasks/",
    "/v1/tasks;x",
    "/v1/tasks%00",
    "/v1/sessions/..\\tasks",
    "/assets/../v1/tasks",
    "/assets/%2e%2e/v1/tasks",
    "/assets/..%2fv1/tasks",
  ];
  await submit(setup, setup.token());
  for (const path of paths) {
    const answer = await setup.raw(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${setup.server.port}\r\nAuthorization: Bearer ${reader}\r\n` +
        "Connection: close\r\n\r\n",
    );
    assert.match(answer, /^HTTP\/1\.1 (400|403|404) /, path);
    assert.ok(!answer.includes('"prompt"'), path);
  }
});

testService("names of tasks and of their files lead nowhere else", async (setup) => {
  const token = setup.token();
  const id = await submit(setup, token);
  const names = ["..", ".", "%2e%2e", "..%2f..%2fpaddock.sqlite", "%2e%2e%2fpaddock.sqlite", "%00", "x%00y"];
  const paths = names.flatMap((name) => [
    `/v1/tasks/${name}`,
    `/v1/tasks/${name}/patch`,
    `/v1/tasks/${id}/${name}`,
    `/v1/tasks/${id}/files/${name}`,
    `/v1/sessions/${name}`,
    `/v1/sessions/${name}/network`,
    `/v1/sessions/${name}/console`,
  ]);
  for (const path of paths) {
    const answer = await setup.raw(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${setup.server.port}\r\nAuthorization: Bearer ${token}\r\n` +
        "Connection: close\r\n\r\n",
    );
    // A path that the URL's rules make another one is that other one
    assert.match(answer, /^HTTP\/1\.1 (200|400|403|404|409) /, path);
    assert.ok(!answer.includes("SQLite format"), path);
    if (answer.startsWith("HTTP/1.1 200")) assert.match(answer, /content-type: application\/json/, path);
  }
});

testService("another token's task and session are not there", async (setup) => {
  const [mine, theirs, admin] = [setup.token(), setup.token(), setup.token({ scopes: ["admin"] })];
  const id = await submit(setup, theirs);
  const tries: readonly [string, string][] = [
    ["GET", ""],
    ["GET", "/events"],
    ["GET", "/result"],
    ["GET", "/patch"],
    ["POST", "/cancel"],
    ["DELETE", ""],
  ];
  for (const [method, rest] of tries) {
    assert.equal(await statusOf(setup.ask(mine, `/v1/tasks/${id}${rest}`, { method })), 404, method + rest);
  }
  const credentials = { method: "PUT", body: JSON.stringify([{ name: "x", value: "y" }]) };
  const headers = { "content-type": "application/json" };
  assert.equal(
    await statusOf(setup.ask(mine, `/v1/tasks/${id}/credentials`, { ...credentials, headers })),
    404,
  );
  const listed = async (token: string): Promise<boolean> =>
    (await (await setup.ask(token, "/v1/tasks")).text()).includes(id);
  assert.deepEqual([await listed(mine), await listed(theirs), await listed(admin)], [false, true, true]);
  assert.equal(await statusOf(setup.ask(admin, `/v1/tasks/${id}`)), 200);
  assert.equal(await statusOf(setup.ask(theirs, `/v1/tasks/${id}/cancel`, { method: "POST" })), 202);
});

Deno.test("the server's own key goes to no URL that a task names", async () => {
  const seen: string[] = [];
  const runner: TaskRunner = ({ credentials, request }) => {
    seen.push(`${request.prompt}: ${credentials.headers.map(({ value }) => value).join()}`);
    return Promise.resolve(lostResult("over"));
  };
  const credentialsFor = (): ModelCredentials =>
    new ModelCredentials([{ name: "authorization", value: "Bearer the-server-s" }]);
  await withService({ runner, credentialsFor }, async ({ ask, token }) => {
    const text = token();
    for (const [prompt, modelUrl] of [["own", "https://evil.example/v1"], ["usual", undefined]] as const) {
      const response = await ask(text, "/v1/tasks", submission({ prompt, modelUrl }));
      const { id } = await response.json() as { id: string };
      await (await ask(text, `/v1/tasks/${id}/events`)).text();
    }
  });
  assert.deepEqual(seen, ["own: ", "usual: Bearer the-server-s"]);
});

testService("a token's rate is kept to, and tells when to come again", async (setup) => {
  const [slow, other] = [setup.token({ ratePerMinute: 3 }), setup.token()];
  const statuses: number[] = [];
  for (let i = 0; i < 3; i++) statuses.push(await statusOf(setup.ask(slow, "/v1/tasks")));
  assert.deepEqual(statuses, [200, 200, 200]);
  const refused = await setup.ask(slow, "/v1/tasks");
  assert.equal(refused.status, 429);
  const retryAfter = Number(refused.headers.get("retry-after"));
  assert.ok(retryAfter >= 15 && retryAfter <= 20, `${retryAfter}`);
  await refused.body?.cancel();
  assert.equal(await statusOf(setup.ask(other, "/v1/tasks")), 200);
});

testService(
  "an address that tries tokens is slowed down, and valid ones from there are not",
  async (setup) => {
    const statuses = new Set<number>();
    let refused = 0;
    for (let i = 0; i < 70; i++) {
      const status = await statusOf(setup.ask(`pdk_aaaaaaaaaa_${String(i).padStart(43, "x")}`, "/v1/tasks"));
      statuses.add(status);
      if (status === 429) refused += 1;
    }
    assert.deepEqual([...statuses].sort(), [401, 429]);
    assert.ok(refused >= 8, `${refused}`);
    assert.equal(await statusOf(setup.ask(setup.token(), "/v1/tasks")), 200);
  },
);

testService("behind a proxy, addresses are those that the proxy saw itself", async ({ ask, token, log }) => {
  const headers = { "x-forwarded-for": "127.0.0.1, 198.51.100.1, 2001:db8::7" };
  assert.equal(await statusOf(ask(token(), "/v1/tasks", { headers })), 200);
  assert.equal(log.at(-1)?.address, "2001:db8::7");
  const tries = Array.from({ length: 70 }, async (_, i) => {
    const from = { "x-forwarded-for": `192.0.2.${i}, 2001:db8:1:2:${i}::1` };
    return await statusOf(ask("x", "/v1/tasks", { headers: from }));
  });
  // All of one network, whatever they say of where they come from
  assert.equal((await Promise.all(tries)).filter((status) => status === 429).length, 10);
}, { isBehindProxy: true });

testService("without a proxy, nobody says where a request comes from", async ({ ask, log }) => {
  await statusOf(ask("x", "/v1/tasks", { headers: { "x-forwarded-for": "198.51.100.1" } }));
  assert.equal(log.at(-1)?.address, "127.0.0.1");
});

testService("a name that somebody made lead to this machine is not this server's", async (setup) => {
  const token = setup.token();
  const { port } = setup.server;
  const statusFor = async (host: string, target = "/v1/tasks"): Promise<string> =>
    (await setup.raw(
      `GET ${target} HTTP/1.1\r\n${host}Authorization: Bearer ${token}\r\nConnection: close\r\n\r\n`,
    )).slice(9, 12);
  for (const name of ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.2"]) {
    assert.equal(await statusFor(`Host: ${name}:${port}\r\n`), "200", name);
  }
  const others = [
    `evil.example:${port}`,
    "evil.example",
    `127.0.0.1.evil.example:${port}`,
    `localhost.evil.example:${port}`,
    `evil.example#127.0.0.1:${port}`,
    `127.0.0.1:${port}@evil.example`,
    `127.0.0.1:${port + 1}`,
    "127.0.0.1",
    `10.0.0.1:${port}`,
    `0.0.0.0:${port}`,
    "",
  ];
  for (const host of others) {
    assert.match(await statusFor(`Host: ${host}\r\n`), /^40[03]$/, host);
  }
  assert.match(await statusFor(""), /^40[03]$/, "no Host");
  const target = "http://evil.example/v1/tasks";
  assert.match(await statusFor(`Host: 127.0.0.1:${port}\r\n`, target), /^40[03]$/, "absolute target");
});

testService("names that the server was given lead to it, whatever the port before it is", async (setup) => {
  const head = (host: string): string =>
    `GET /v1/tasks HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${setup.token()}\r\n` +
    "Connection: close\r\n\r\n";
  for (const host of ["paddock.example", "paddock.example:443", "Paddock.Example."]) {
    assert.match(await setup.raw(head(host)), /^HTTP\/1\.1 200 /, host);
  }
  assert.match(await setup.raw(head("x.paddock.example")), /^HTTP\/1\.1 403 /);
}, { names: ["paddock.example"] });

testService("a page of another origin can do nothing, token or not", async (setup) => {
  const token = setup.token();
  const { url, port } = setup.server;
  const origins = [
    "https://evil.example",
    "null",
    `http://127.0.0.1:${port + 1}`,
    `http://localhost:${port}`,
  ];
  const simple = { "content-type": "text/plain" };
  for (const origin of origins) {
    for (const given of [token, null]) {
      for (const method of ["GET", "POST", "DELETE", "OPTIONS"]) {
        const headers = { origin, ...simple };
        assert.equal(await statusOf(setup.ask(given, "/v1/tasks", { method, headers })), 403, origin);
      }
    }
  }
  assert.equal(setup.service.activeCount, 0);
  const own = await setup.ask(token, "/v1/tasks", { headers: { origin: url } });
  assert.equal(own.status, 200);
  assert.equal(own.headers.get("access-control-allow-origin"), null);
  await own.body?.cancel();
});

testService("answers are what they are called, and never a page of this server's", async (setup) => {
  for (const path of ["/v1/tasks", "/v1/no-such-thing"]) {
    const { headers, body } = await setup.ask(setup.token(), path);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("referrer-policy"), "no-referrer");
    assert.match(headers.get("content-security-policy") ?? "", /^default-src 'none'; sandbox/);
    await body?.cancel();
  }
});

function handshake(port: number, path: string, headers: readonly string[]): string {
  return [
    `GET ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${btoa("0123456789abcdef")}`,
    ...headers,
    "",
    "",
  ].join("\r\n");
}

testService("a WebSocket takes a token and an origin of its own, as every request does", async (setup) => {
  const { port, url } = setup.server;
  const [token, reader] = [setup.token(), setup.token({ scopes: ["sessions:read", "tasks:read"] })];
  const bearer = (text: string): string => `Sec-WebSocket-Protocol: paddock, paddock.bearer.${text}`;
  const paths = ["/v1/sessions/x/exec", "/v1/sessions/x/ports/80"];
  const cases: readonly [string, readonly string[]][] = [
    ["401", []],
    ["401", ["Sec-WebSocket-Protocol: paddock"]],
    ["401", [bearer("pdk_x_y")]],
    ["401", [`Sec-WebSocket-Protocol: paddock.bearer.${token}`]],
    ["401", [`Cookie: token=${token}`]],
    ["403", [bearer(reader)]],
    ["403", [`Authorization: Bearer ${reader}`]],
    ["403", [bearer(token), "Origin: https://evil.example"]],
    ["403", [`Authorization: Bearer ${token}`, "Origin: null"]],
    // Let in: there is no such session
    ["404", [bearer(token), `Origin: ${url}`]],
    ["404", [`Authorization: Bearer ${token}`]],
  ];
  for (const path of paths) {
    for (const [status, headers] of cases) {
      const all = handshake(port, path, headers).replace("Connection: Upgrade", "Connection: close, Upgrade");
      assert.equal((await setup.raw(all)).slice(9, 12), status, `${path} ${headers.join(" ")}`);
    }
  }
});

testService("two requests cannot be made to look like one", async (setup) => {
  const token = setup.token();
  const head = `Host: 127.0.0.1:${setup.server.port}\r\nAuthorization: Bearer ${token}\r\n`;
  const smuggled = `POST /v1/tasks/x/cancel HTTP/1.1\r\n${head}\r\n`;
  const cases: Readonly<Record<string, string>> = {
    "CL and TE": `Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "TE and CL": `Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n${smuggled}`,
    "two CL": `Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
    "CL list": `Content-Length: 0, ${smuggled.length}\r\n\r\n${smuggled}`,
    "signed CL": `Content-Length: +0\r\n\r\n${smuggled}`,
    "negative CL": `Content-Length: -1\r\n\r\n${smuggled}`,
    "hex CL": `Content-Length: 0x0\r\n\r\n${smuggled}`,
    "unknown TE": `Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "two TE": `Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${smuggled}`,
    "folded header": `X-A: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "space before colon": `Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "two hosts": `Host: evil.example\r\n\r\n${smuggled}`,
    "NUL in a header": `X-A: a\0b\r\n\r\n${smuggled}`,
    "bad chunk size": `Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n${smuggled}`,
    "huge chunk size": `Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n${smuggled}`,
  };
  for (const [name, rest] of Object.entries(cases)) {
    const before = setup.log.length;
    const answer = await setup.raw(`POST /v1/tasks HTTP/1.1\r\n${head}${rest}`);
    // A body that breaks off is the end of the connection
    assert.match(answer, /chunk/.test(name) ? /^(HTTP\/1\.1 400 |$)/ : /^HTTP\/1\.1 400 /, name);
    const paths = setup.log.slice(before).map(({ path }) => path);
    assert.ok(!paths.includes("/v1/tasks/x/cancel"), `${name}: ${paths.join(" ")}`);
  }
});

/** An archive of these members, each with its content. */
function archive(
  ...members: readonly (Pick<TarMember, "kind" | "name" | "linkName"> & { readonly content?: string })[]
): Uint8Array {
  const parts = members.flatMap(({ content = "", ...member }) => {
    const bytes = new TextEncoder().encode(content);
    const header = tarHeader({ ...member, mode: 0o644, mtime: 0, sizeBytes: bytes.length });
    return [header, bytes, tarPadding(bytes.length)];
  });
  return new Uint8Array([...parts, tarEnd()].flatMap((part) => [...part]));
}

const SECRET = "what the host keeps to itself";

Deno.test("an uploaded archive is never unpacked here, and a result's links lead to nothing of the host's", async () => {
  const hostile = (secretPath: string): Uint8Array =>
    archive(
      { name: "../outside.txt", kind: "file", content: "evil" },
      { name: "/tmp/paddock-security-test.txt", kind: "file", content: "evil" },
      { name: "link", kind: "symlink", linkName: secretPath },
      { name: "folder", kind: "symlink", linkName: "/etc" },
      { name: "folder/passwd", kind: "file", content: "mine" },
      { name: "hard", kind: "hardlink", linkName: secretPath },
      { name: "loop", kind: "hardlink", linkName: "loop" },
    );
  let seen: Uint8Array | undefined;
  // What the agent leaves is what was uploaded
  const runner: TaskRunner = async ({ workspaceTar = "", folder }) => {
    seen = await Deno.readFile(workspaceTar);
    await Deno.copyFile(workspaceTar, `${folder}/${TASK_FILES.files}`);
    return lostResult("over", "done");
  };
  await withService({ runner }, async ({ ask, token, stateDir, raw, server }) => {
    const text = token();
    const secretPath = `${stateDir}/secret.txt`;
    await Deno.writeTextFile(secretPath, SECRET);
    const bytes = hostile(secretPath);
    const upload = await ask(text, "/v1/uploads", { method: "POST", body: bytes as BodyInit });
    const { id: uploadId } = await upload.json() as { id: string };
    const { id } = await (await ask(text, "/v1/tasks", submission({ uploadId }))).json() as { id: string };
    await (await ask(text, `/v1/tasks/${id}/events`)).text();
    assert.deepEqual(seen, bytes);
    const found = await new Deno.Command("find", {
      args: [stateDir, "-name", "*outside*", "-o", "-type", "l"],
    })
      .output();
    assert.equal(new TextDecoder().decode(found.stdout), "");
    await assert.rejects(Deno.stat("/tmp/paddock-security-test.txt"), Deno.errors.NotFound);
    const get = (path: string): Promise<string> =>
      raw(
        `GET /v1/tasks/${id}/files/${path} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n` +
          `Authorization: Bearer ${text}\r\nConnection: close\r\n\r\n`,
      );
    assert.match(await get("folder/passwd"), /^HTTP\/1\.1 200 [^]*mine$/);
    const nothing = [
      "link",
      "hard",
      "loop",
      "folder",
      "etc/passwd",
      encodeURIComponent(secretPath),
      "%2fetc%2fpasswd",
    ];
    for (const path of nothing) {
      const answer = await get(path);
      assert.match(answer, /^HTTP\/1\.1 (400|404) /, path);
      assert.ok(!answer.includes(SECRET) && !answer.includes("root:"), path);
    }
  });
});

testService("a compressed body is kept as it came: nothing is blown up here", async ({ ask, token }) => {
  const zeros = new Blob([new Uint8Array(20_000_000)]).stream();
  const packed = await new Response(zeros.pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
  const headers = { "content-encoding": "gzip", "content-type": "application/json" };
  const upload = await ask(token(), "/v1/uploads", { method: "POST", body: packed, headers });
  assert.equal((await upload.json() as { sizeBytes: number }).sizeBytes, packed.byteLength);
  assert.ok(packed.byteLength < 100_000);
  assert.equal(await statusOf(ask(token(), "/v1/tasks", { method: "POST", body: packed, headers })), 400);
});
