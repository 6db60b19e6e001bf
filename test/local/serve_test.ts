import assert from "node:assert/strict";
import { parseServeArguments } from "../../src/cli/commands/serve.ts";
import { UsageError } from "../../src/cli/usage_error.ts";
import { LocalError } from "../../src/local/local_error.ts";
import { captureErrors, formatLine } from "../../src/local/serve_log.ts";
import { type ListenOptions, localToken, requireSafeListen } from "../../src/local/serve_rules.ts";
import { createToken, openTokens, type Tokens } from "../../src/local/tokens.ts";
import { hasTool } from "../support/command.ts";
import { sandbox, sandboxCommand } from "../support/sandbox_cli.ts";

const LOOPBACK: ListenOptions = { hostname: "127.0.0.1", port: 0, names: [], isBehindProxy: false };
const TLS = { certFile: "c", keyFile: "k" };
/** No VM is started: the server listens, whatever this machine's KVM is. */
const ENV = { PADDOCK_HOST: "native", NO_COLOR: "1" };

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function makeToken(
  tokens: Tokens,
  lifetimeMs: number | null = null,
): { readonly id: string; readonly text: string } {
  const { token: { id }, text } = createToken(tokens, {
    name: "test",
    scopes: [],
    lifetimeMs,
    ratePerMinute: null,
    maxActive: null,
  });
  return { id, text };
}

Deno.test("a server that others can reach takes a token, and TLS or a proxy that does it", async () => {
  await withFolder((folder) => {
    using tokens = openTokens(folder);
    const { store } = tokens;
    const others: ListenOptions[] = [
      { ...LOOPBACK, hostname: "0.0.0.0" },
      { ...LOOPBACK, hostname: "::" },
      { ...LOOPBACK, hostname: "192.0.2.1", tls: TLS },
      { ...LOOPBACK, hostname: "127.0.0.1.evil.example", tls: TLS },
      { ...LOOPBACK, isBehindProxy: true, names: ["a.example"] },
    ];
    requireSafeListen(LOOPBACK, store);
    requireSafeListen({ ...LOOPBACK, hostname: "::1" }, store);
    for (const options of others) {
      assert.throws(() => requireSafeListen(options, store), /sandbox token create/);
    }
    const { id } = makeToken(tokens);
    assert.throws(() => requireSafeListen({ ...LOOPBACK, hostname: "0.0.0.0" }, store), /--tls-cert/);
    assert.throws(() => requireSafeListen({ ...LOOPBACK, isBehindProxy: true }, store), /--host NAME/);
    requireSafeListen({ ...LOOPBACK, hostname: "0.0.0.0", tls: TLS }, store);
    requireSafeListen({ ...LOOPBACK, hostname: "0.0.0.0", isBehindProxy: true }, store);
    requireSafeListen({ ...LOOPBACK, isBehindProxy: true, names: ["a.example"] }, store);
    store.revoke(id);
    for (const options of others) assert.throws(() => requireSafeListen(options, store), LocalError);
    return Promise.resolve();
  });
});

Deno.test("this user's token is made once, where there is none, and only this user can read it", async () => {
  await withFolder(async (folder) => {
    using tokens = openTokens(folder);
    const path = await localToken(folder, tokens.store) ?? "";
    const text = Deno.readTextFileSync(path);
    assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o600);
    assert.equal(await localToken(folder, tokens.store), path);
    assert.equal(Deno.readTextFileSync(path), text);
    for (const { id } of tokens.store.list()) tokens.store.revoke(id);
    Deno.chmodSync(path, 0o644);
    await localToken(folder, tokens.store);
    assert.notEqual(Deno.readTextFileSync(path), text);
    assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o600);
  });
  await withFolder(async (folder) => {
    using tokens = openTokens(folder);
    makeToken(tokens);
    assert.equal(await localToken(folder, tokens.store), undefined);
  });
});

Deno.test("parseServeArguments() reads addresses and refuses the rest", () => {
  const listen = (text: string): [string, number] => {
    const { hostname, port } = parseServeArguments(["--listen", text]);
    return [hostname, port];
  };
  assert.deepEqual(["8080", "0.0.0.0:1", "[::1]:80", "localhost:0"].map(listen), [
    ["127.0.0.1", 8080],
    ["0.0.0.0", 1],
    ["::1", 80],
    ["localhost", 0],
  ]);
  for (const text of ["", ":8080", "x", "a:b", "1.2.3.4", "::1:80", "a:70000", "a b:1"]) {
    assert.throws(() => listen(text), UsageError, text);
  }
  const wrong = [["--tls-cert", "x"], ["--host", "a:1"], ["--log-format", "xml"], ["--max-vms", "0"]];
  for (const args of wrong) assert.throws(() => parseServeArguments(args), UsageError, args.join(" "));
});

Deno.test("a line of the log is one line, whatever is in it", () => {
  const line = { time: new Date(0), level: "info", message: "request" } as const;
  const facts = { path: "/a\n\x1b[2J\u202eb", status: 200, taskId: null };
  assert.deepEqual(JSON.parse(formatLine("json", line, facts)), {
    time: "1970-01-01T00:00:00.000Z",
    level: "info",
    message: "request",
    ...facts,
  });
  assert.equal(formatLine("json", line, facts).split("\n").length, 1);
  assert.equal(formatLine("text", line, facts), "00:00:00 request path=/a??[2J?b status=200");
});

Deno.test("what is printed on stderr becomes a line of the log until the service is over", () => {
  const lines: [string, string, Readonly<Record<string, unknown>> | undefined][] = [];
  const before = console.error;
  {
    using _ = captureErrors((level, message, facts) => lines.push([level, message, facts]));
    console.error("a", 1);
    console.error(new Error("outer", { cause: new Error("inner") }));
  }
  assert.equal(console.error, before);
  assert.deepEqual(lines.map(([level, message]) => [level, message]), [["error", "a 1"], ["error", "outer"]]);
  const { stack, cause } = lines[1]?.[2] ?? {};
  assert.match(String(stack), /^Error: outer\n.*serve_test/s);
  assert.match(String(cause), /^Error: inner\n/);
});

interface Line extends Record<string, unknown> {
  readonly message: string;
}

/** `sandbox serve` in a process of its own. */
class ServeProcess {
  readonly lines: Line[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  text = "";

  constructor(args: readonly string[], command = sandboxCommand) {
    this.#child = new Deno.Command("sh", {
      args: ["-c", 'exec "$@" 2>&1', "sh", ...command("serve", "--log-format", "json", ...args)],
      env: ENV,
      stdin: "null",
      stdout: "piped",
    }).spawn();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) this.text += decoder.decode(chunk, { stream: true });
  }

  /** The first line with this message. */
  async line(message: string): Promise<Line> {
    for (const deadline = performance.now() + 30_000; performance.now() < deadline;) {
      const lines = this.text.split("\n").filter((text) => text.startsWith("{"));
      const found = lines.map((text) => JSON.parse(text) as Line).find((line) => line.message === message);
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`No line "${message}": ${this.text}`);
  }

  async end(signal: Deno.Signal): Promise<number> {
    this.#child.kill(signal);
    return await this.over();
  }

  async over(): Promise<number> {
    const [{ code }] = await Promise.all([this.#child.status, this.#reading]);
    return code;
  }
}

Deno.test("a service listens, logs, has its folder to itself, hears of revoked tokens, and ends when told", async () => {
  await withFolder(async (folder) => {
    const state = ["--state", folder];
    const server = new ServeProcess(["--listen", "127.0.0.1:0", ...state]);
    const { url, tokenFile } = await server.line("listening") as unknown as {
      url: string;
      tokenFile: string;
    };
    const token = Deno.readTextFileSync(tokenFile).trim();
    const ask = async (text: string): Promise<number> => {
      const response = await fetch(`${url}/v1/tasks`, { headers: { authorization: `Bearer ${text}` } });
      await response.body?.cancel();
      return response.status;
    };
    assert.deepEqual([await ask(token), await ask("x")], [200, 401]);

    const second = await sandbox(["serve", "--listen", "127.0.0.1:0", ...state], ENV);
    assert.equal(second.code, 2);
    assert.match(second.stderr, /^sandbox: A server uses the state folder .* already: /m);
    const other = await Deno.makeTempDir();
    const samePort = await sandbox(["serve", "--listen", new URL(url).host, "--state", other], ENV);
    await Deno.remove(other, { recursive: true });
    assert.equal(samePort.code, 3);
    assert.match(samePort.stderr, /Something listens on 127\.0\.0\.1:[0-9]+ already: /);

    const made = await sandbox(["token", "create", "ci", "--json", ...state], ENV);
    const { id, token: ci } = JSON.parse(made.stdout) as { id: string; token: string };
    assert.equal(await ask(ci), 200);
    assert.equal((await sandbox(["token", "revoke", id, ...state], ENV)).code, 0);
    assert.equal(await ask(ci), 401);

    const { requestId, ms, time, ...facts } = await server.line("request");
    assert.ok(typeof requestId === "string" && typeof ms === "number" && typeof time === "string");
    const tokenId = token.split("_")[1];
    assert.deepEqual(facts, {
      level: "info",
      message: "request",
      tokenId,
      address: "127.0.0.1",
      method: "GET",
      path: "/v1/tasks",
      status: 200,
      taskId: null,
    });
    assert.equal(await server.end("SIGTERM"), 0);
    assert.ok(!server.text.includes(token) && !server.text.includes(ci));
  });
});

Deno.test({
  name: "a service beyond loopback speaks TLS and nothing else",
  ignore: !hasTool("openssl"),
  fn: async () => {
    await withFolder(async (folder) => {
      const [cert, key] = [`${folder}/cert.pem`, `${folder}/key.pem`];
      const { code } = await new Deno.Command("openssl", {
        args: `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost
          -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE
          -keyout ${key} -out ${cert}`.split(/\s+/),
        stderr: "null",
      }).output();
      assert.equal(code, 0);
      using tokens = openTokens(folder);
      const { text } = makeToken(tokens);
      const tls = ["--tls-cert", cert, "--tls-key", key];
      const server = new ServeProcess(["--listen", "0.0.0.0:0", "--state", folder, ...tls]);
      const { url } = await server.line("listening") as unknown as { url: string };
      assert.match(url, /^https:\/\/0\.0\.0\.0:/);
      const { port } = new URL(url);
      using client = Deno.createHttpClient({ caCerts: [Deno.readTextFileSync(cert)] });
      const headers = { authorization: `Bearer ${text}` };
      const response = await fetch(`https://localhost:${port}/v1/tasks`, { client, headers });
      assert.equal(response.status, 200);
      await response.body?.cancel();
      await assert.rejects(fetch(`http://localhost:${port}/v1/tasks`, { headers }));
      assert.equal(await server.end("SIGINT"), 0);
      Deno.writeTextFileSync(key, "no key");
      const broken = await sandbox(["serve", "--listen", "0.0.0.0:0", "--state", folder, ...tls], ENV);
      assert.equal(broken.code, 2);
      assert.match(broken.stderr, /^sandbox: Cannot use the certificate and its key: /m);
    });
  },
});

/** Runs `serve` with its state folder on a file system of its own. */
async function serveOn(
  setUp: string,
  folder: string,
): Promise<{ readonly code: number; readonly text: string }> {
  const command = (...args: readonly string[]): string[] => [
    "unshare",
    "-m",
    "sh",
    "-c",
    `${setUp} && shift && exec "$@"`,
    "sh",
    folder,
    ...sandboxCommand(...args),
  ];
  const server = new ServeProcess(["--listen", "127.0.0.1:0", "--state", folder], command);
  return { code: await server.over(), text: server.text };
}

Deno.test({
  name: "a state folder that is read-only, or on a full disk, is said to be so",
  ignore: Deno.uid() !== 0 || !hasTool("unshare"),
  fn: async () => {
    await withFolder(async (folder) => {
      const readOnly = await serveOn('mount -t tmpfs -o ro none "$1"', folder);
      assert.equal(readOnly.code, 3);
      assert.match(
        readOnly.text,
        /^sandbox: The state folder .* is read-only: give another one with --state DIR$/m,
      );
      const full = await serveOn(
        'mount -t tmpfs -o size=16k none "$1" && head -c 1m /dev/zero > "$1/x"; true',
        folder,
      );
      assert.equal(full.code, 3);
      assert.match(full.text, /^sandbox: The disk of the state folder .* is full: make room/m);
    });
  },
});
