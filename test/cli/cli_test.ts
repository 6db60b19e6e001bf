import { parsePublication } from "../../src/cli/quantities.ts";
import { parseSessionPath } from "../../src/local/session_files.ts";
import assert from "node:assert/strict";
import { describeFailure } from "../../src/cli/main.ts";
import { parseBootArguments } from "../../src/cli/commands/boot.ts";
import type { TaskResult } from "../../src/api/client.ts";
import { parseRunArguments } from "../../src/cli/commands/run.ts";
import { printable } from "../../src/cli/printable.ts";
import { ProgressDisplay } from "../../src/cli/progress_display.ts";
import {
  formatBytes,
  formatMs,
  parseByteRate,
  parseCount,
  parseDurationMs,
  parseLifetimeMs,
  parseRatePerMinute,
  parseSizeMib,
} from "../../src/cli/quantities.ts";
import { renderEvent } from "../../src/cli/render_event.ts";
import { exitCodeFor, renderSummary } from "../../src/cli/summary.ts";
import { UsageError } from "../../src/cli/usage_error.ts";
import { runLocalTask } from "../../src/local/run_local_task.ts";
import { lostResult } from "../../src/session/task.ts";

const PLAIN = { bold: String, dim: String, red: String, green: String };

Deno.test("parseDurationMs() reads durations and refuses the rest", () => {
  assert.deepEqual(["90", "90s", "1.5m", "2h", "500ms"].map((text) => parseDurationMs("-t", text)), [
    90_000,
    90_000,
    90_000,
    7_200_000,
    500,
  ]);
  for (const text of ["", "0", "-1s", "1d", "s", "1e3", "∞"]) {
    assert.throws(() => parseDurationMs("--timeout", text), UsageError, text);
  }
});

Deno.test("parseLifetimeMs() reads days too, and refuses the rest", () => {
  assert.deepEqual(["30d", "12h", "90"].map((text) => parseLifetimeMs("--expires", text)), [
    2_592_000_000,
    43_200_000,
    90_000,
  ]);
  for (const text of ["", "0d", "-1d", "1w", "never", "1.5d", "123456d"]) {
    assert.throws(() => parseLifetimeMs("--expires", text), UsageError, text);
  }
});

Deno.test("parseRatePerMinute() reads rates and refuses the rest", () => {
  const texts = ["60", "60/min", "10/s", "120/h"];
  assert.deepEqual(texts.map((text) => parseRatePerMinute("--rate", text)), [60, 60, 600, 2]);
  for (const text of ["", "0", "-1", "1/d", "59/h", "1.5", "1e3/s"]) {
    assert.throws(() => parseRatePerMinute("--rate", text), UsageError, text);
  }
});

Deno.test("parseSizeMib() reads sizes and refuses the rest", () => {
  assert.deepEqual(["512M", "4G", "1024", "2GiB", "512mb"].map((text) => parseSizeMib("-m", text)), [
    512,
    4096,
    1024,
    2048,
    512,
  ]);
  for (const text of ["", "0", "-4G", "4T", "1.5G", "G"]) {
    assert.throws(() => parseSizeMib("-m", text), UsageError, text);
  }
});

Deno.test("parseByteRate() reads bytes a second and refuses the rest", () => {
  const texts = ["4M", "4MiB/s", "512k", "1G", "1000", "1000B"];
  assert.deepEqual(texts.map((text) => parseByteRate("--disk-rate", text)), [
    4_194_304,
    4_194_304,
    524_288,
    1_073_741_824,
    1000,
    1000,
  ]);
  for (const text of ["", "0", "0M", "-4M", "4T", "1.5G", "M", "4M/m", "9007199254740993"]) {
    assert.throws(() => parseByteRate("--disk-rate", text), UsageError, text);
  }
});

Deno.test("parseCount() takes whole numbers from 1", () => {
  assert.equal(parseCount("--cpus", "2"), 2);
  for (const text of ["0", "-1", "1.5", "two", ""]) {
    assert.throws(() => parseCount("--cpus", text), UsageError);
  }
});

Deno.test("parseRunArguments() reads a full command line", () => {
  const args = ["codex", "fix it", "--repo", ".", "--memory", "2G", "--timeout", "10m", "--keep", "--json"];
  const parsed = parseRunArguments(args);
  assert.deepEqual(
    [parsed.agent, parsed.prompt, parsed.repo, parsed.memoryMib, parsed.timeoutMs, parsed.keep, parsed.json],
    ["codex", "fix it", ".", 2048, 600_000, true, true],
  );
});

Deno.test("a run whose cost is limited needs the price of its model, and says so before anything else", async () => {
  const task = parseRunArguments(["codex", "x", "--model", "new-model", "--max-cost", "$0.50"]);
  assert.equal(task.maxCostUsd, 0.5);
  const nothing = (): void => {};
  const { signal } = new AbortController();
  const run = runLocalTask({
    ...task,
    signal,
    demo: true,
    onProgress: nothing,
    onEvent: nothing,
    onNotice: nothing,
  });
  await assert.rejects(run, (error) => {
    const { code, line } = describeFailure(error);
    assert.match(line, /No price is known for model "new-model".*--prices FILE, or use --max-tokens/);
    return code === 2;
  });
  for (const text of ["0", "1e3", "free", ""]) {
    assert.throws(() => parseRunArguments(["codex", "x", "--max-cost", text]), UsageError, text);
  }
});

Deno.test("renderSummary() says what the model used, and what that cost where it is known", () => {
  const modelUsage = { inputTokens: 1000, cachedTokens: 400, outputTokens: 20 };
  const lines = (modelCostUsd: number | null): string =>
    renderSummary({ ...lostResult("x"), modelUsage, modelCostUsd }, { outFolder: "", style: PLAIN }).join(
      "\n",
    );
  assert.match(lines(0.0123), /Model: 1000 tokens in \(400 from a cache\), 20 out, about \$0\.0123/);
  assert.match(lines(null), /20 out$/m);
});

Deno.test("parseRunArguments() takes network rules one by one, and none by default", () => {
  assert.deepEqual(parseRunArguments(["codex", "x"]).network, { mode: "proxy", allow: [], profiles: [] });
  const args = [
    "--allow",
    "a.example",
    "--allow",
    "*.b.example:443",
    "--profile",
    "git",
    "--network",
    "none",
  ];
  assert.deepEqual(parseRunArguments(["codex", "x", ...args]).network, {
    mode: "none",
    allow: ["a.example", "*.b.example:443"],
    profiles: ["git"],
  });
});

Deno.test("renderEvent() says what the network refused, and how to allow it", () => {
  const denied = {
    action: "denied",
    protocol: "tls",
    host: "example.com",
    port: 443,
    reason: "not in allow-list; allow with --allow example.com",
  } as const;
  assert.deepEqual(renderEvent({ type: "network", decision: denied }, PLAIN), [
    "denied: example.com:443 (not in allow-list; allow with --allow example.com)",
  ]);
  assert.deepEqual(renderEvent({ type: "network", decision: { ...denied, action: "allowed" } }, PLAIN), []);
});

Deno.test("parseRunArguments() needs a prompt, except for a demo", () => {
  assert.throws(() => parseRunArguments([]), UsageError);
  assert.throws(() => parseRunArguments(["codex"]), UsageError);
  assert.throws(() => parseRunArguments(["codex", " "]), UsageError);
  assert.throws(() => parseRunArguments(["codex", "fix", "it"]), UsageError);
  assert.ok(parseRunArguments(["codex", "--demo"]).prompt.length > 0);
});

Deno.test("bad usage is one line and exit code 2", () => {
  const attempts: [() => unknown, RegExp][] = [
    [() => parseRunArguments(["codex", "x", "--frobnicate"]), /--frobnicate/],
    [() => parseRunArguments(["codex", "x", "--memory"]), /memory/],
    [() => parseRunArguments(["codex", "x", "--model-url", "ftp://x"]), /--model-url/],
    [() => parseRunArguments(["codex", "--demo", "--model-url", "http://x"]), /exclude/],
    [() => parseRunArguments(["codex", "x", "--network", "all"]), /--network must be none or proxy/],
    [() => parseBootArguments([]), /kernel/],
    [() => parseBootArguments(["-k", "x", "-z"]), /-z/],
    [() => parseBootArguments(["-k", "x", "stray"]), /stray/],
    [() => parseBootArguments(["-k", "x", "-m", "lots"]), /-m/],
    [() => parseBootArguments(["-k", "x", "--on-reboot", "again"]), /--on-reboot must be restart or exit/],
    [() => parseBootArguments(["-k", "x", "--grace", "soon"]), /--grace/],
    [() => parseBootArguments(["-k", "x", "--console", "vga"]), /--console must be serial or virtio/],
    [() => parseBootArguments(["-k", "x", "--cpus", "0"]), /--cpus must be a whole number from 1/],
    [
      () => parseBootArguments(["-k", "x", "-d", "y", "--disk-rate", "fast"]),
      /--disk-rate must be bytes a second/,
    ],
    [
      () => parseBootArguments(["-k", "x", "-d", "y", "--disk-iops", "1K"]),
      /--disk-iops must be a whole number/,
    ],
    [() => parseBootArguments(["-k", "x", "--disk-iops", "100"]), /--disk-iops needs -d/],
    [
      () => parseBootArguments(["-k", "x", "-t", "tap3", "--net-rate", "0"]),
      /--net-rate must be bytes a second/,
    ],
    [() => parseBootArguments(["-k", "x", "-t", "tap3", "--net-pps", "-1"]), /net-pps/],
    [() => parseBootArguments(["-k", "x", "-d", "y", "--net-rate", "4M"]), /--net-rate needs -t/],
  ];
  for (const [attempt, reason] of attempts) {
    try {
      attempt();
      assert.fail("nothing was refused");
    } catch (error) {
      const { line, code } = describeFailure(error);
      assert.equal(code, 2, line);
      assert.match(line, reason);
      assert.ok(!line.includes("\n"));
    }
  }
});

Deno.test("parseBootArguments() reads the seed's command line", () => {
  const parsed = parseBootArguments([
    "-k",
    "bzImage",
    "-i",
    "rd",
    "-d",
    "disk",
    "-t",
    "tap3",
    "-m",
    "4G",
    "-a",
    "quiet",
  ]);
  assert.deepEqual(parsed, {
    kernel: "bzImage",
    initrd: "rd",
    disks: ["disk"],
    diskRateLimit: undefined,
    tap: "tap3",
    netRateLimit: undefined,
    memoryMib: 4096,
    cpus: 1,
    cmdline: "quiet",
    console: "serial",
    onReboot: "exit",
    graceMs: 10_000,
  });
});

Deno.test("parseBootArguments() reads several disks, vCPUs and rates", () => {
  const words = "-k x -d root -d data --cpus 4 --disk-rate 4M --disk-iops 500 -t tap3 --net-pps 1000";
  const parsed = parseBootArguments(words.split(" "));
  assert.deepEqual([parsed.disks, parsed.cpus], [["root", "data"], 4]);
  assert.deepEqual(parsed.diskRateLimit, { bytesPerSecond: 4_194_304, operationsPerSecond: 500 });
  assert.deepEqual(parsed.netRateLimit, { operationsPerSecond: 1000 });
  assert.match(parsed.cmdline, /root=\/dev\/vda/);
});

Deno.test("parseBootArguments() has the kernel use the console that was chosen", () => {
  assert.match(parseBootArguments(["-k", "x"]).cmdline, /^console=ttyS0 reboot/);
  const virtio = parseBootArguments(["-k", "x", "--console", "virtio"]);
  assert.match(virtio.cmdline, /console=hvc0 reboot/);
  assert.equal(virtio.console, "virtio");
});

Deno.test("parseBootArguments() reads what a reboot does, and how long a power-off may take", () => {
  const parsed = parseBootArguments(["-k", "x", "--on-reboot", "restart", "--grace", "90s"]);
  assert.deepEqual([parsed.onReboot, parsed.graceMs], ["restart", 90_000]);
});

Deno.test("printable() leaves nothing that moves the cursor or types for the user", () => {
  assert.equal(
    printable("a\x1b[2J\x1b[1;31mb\x1b]0;title\x07c\x1b]52;c;cGF5\x1b\\d\x9b5ne\u202ef\r\ng\rh\x08\ti"),
    "abcd5nef\ng\nh\ti",
  );
});

Deno.test("renderEvent() shows what the agent does, with its output cut", () => {
  const stamp = { v: 1, at: "2026-01-01T00:00:00.000Z", id: "1" } as const;
  const call = { ...stamp, type: "tool_call", name: "shell", command: true, input: "ls" } as const;
  assert.deepEqual(renderEvent({ type: "agent", event: call }, PLAIN), ["$ ls"]);
  const other = { ...call, name: "Write", command: false, input: "a.ts" };
  assert.deepEqual(renderEvent({ type: "agent", event: other }, PLAIN), ["> Write a.ts"]);
  const output = Array.from({ length: 50 }, (_, at) => `line ${at}`).join("\n");
  const result = {
    ...stamp,
    type: "tool_result",
    output,
    exitCode: 7,
    ok: false,
    durationMs: 12_000,
  } as const;
  const lines = renderEvent({ type: "agent", event: result }, PLAIN);
  assert.equal(lines.length, 22);
  assert.equal(lines.at(-1), "  failed with exit code 7 after 12.0 s");
});

Deno.test("renderSummary() says how often the network was denied, and where that stands", () => {
  const result = { ...lostResult("Agent completed its turn"), outcome: "done" } as const;
  const network = (denied: number): NonNullable<TaskResult["network"]> => ({
    mode: "proxy",
    policySha256: "",
    allowed: 3,
    denied,
    failed: 0,
    denials: [],
    journal: { lineCount: 1, sha256: "" },
  });
  const lines = (denied: number): string[] =>
    renderSummary({ ...result, network: network(denied) }, { outFolder: "", style: PLAIN });
  assert.deepEqual(lines(0), ["Done"]);
  assert.deepEqual(lines(1), ["Done", "1 attempt to reach the network denied: see network.jsonl"]);
  assert.equal(lines(20)[1], "20 attempts to reach the network denied: see network.jsonl");
});

Deno.test("exitCodeFor() gives each outcome its documented code", () => {
  const outcomes = ["done", "agent_failed", "host_failed", "timeout", "cancelled"] as const;
  assert.deepEqual(outcomes.map(exitCodeFor), [0, 1, 3, 4, 130]);
});

Deno.test("ProgressDisplay prints plain lines where there is no terminal", () => {
  let text = "";
  const display = new ProgressDisplay({ isTerminal: false, write: (piece) => void (text += piece) });
  display.show({ type: "step", step: "kernel", message: "Building the kernel", index: 1, count: 3 });
  display.show({ type: "done", step: "kernel", ms: 61_000 });
  assert.equal(text, "[1/3] Building the kernel\nBuilding the kernel: done in 1 min 1 s\n");
});

Deno.test("ProgressDisplay draws a bar on a terminal and takes it away", () => {
  let text = "";
  const display = new ProgressDisplay({ isTerminal: true, write: (piece) => void (text += piece) });
  display.show({ type: "progress", step: "x", done: 512, total: 1024, unit: "bytes" });
  display.line("next");
  assert.match(text, /\[#{12}\.{12}\] 512 B of 1\.0 KiB/);
  assert.ok(text.endsWith("\r\x1b[Knext\n"));
});

Deno.test("formatMs() and formatBytes() are short", () => {
  assert.deepEqual([900, 1500, 61_000].map(formatMs), ["900 ms", "1.5 s", "1 min 1 s"]);
  assert.deepEqual([10, 2048, 3 * 2 ** 20].map(formatBytes), ["10 B", "2.0 KiB", "3.0 MiB"]);
});

Deno.test("parseRunArguments() takes --apply only where somebody can say yes", () => {
  const { apply, branch, yes } = parseRunArguments(["codex", "x", "--apply", "--branch", "b", "--yes"]);
  assert.deepEqual([apply, branch, yes], [true, "b", true]);
  assert.throws(() => parseRunArguments(["codex", "x", "--apply", "--json"]), /--yes/);
  assert.throws(() => parseRunArguments(["codex", "x", "--branch", "b"]), /--branch needs --apply/);
});

Deno.test("parsePublication() takes two ports, or one for both", () => {
  assert.deepEqual(parsePublication("8080:80"), { hostPort: 8080, guestPort: 80 });
  assert.deepEqual(parsePublication("3000"), { hostPort: 3000, guestPort: 3000 });
  assert.deepEqual(parsePublication("0:80"), { hostPort: 0, guestPort: 80 });
  for (const text of ["", "80:0", "x:80", "80:80:80", "70000:80", "1:99999", "0", "-1:1"]) {
    assert.throws(() => parsePublication(text), /must be HOST:GUEST/, text);
  }
});

Deno.test("parseSessionPath() tells paths of sessions from paths of this machine", () => {
  assert.deepEqual(parseSessionPath("abcdefghij:/etc/"), { id: "abcdefghij", path: "/etc" });
  assert.deepEqual(parseSessionPath("abcdefghij:/"), { id: "abcdefghij", path: "/" });
  assert.deepEqual(parseSessionPath("abcdefghij:dist"), { id: "abcdefghij", path: "/workspace/dist" });
  assert.deepEqual(parseSessionPath("abcdefghij:"), { id: "abcdefghij", path: "/workspace" });
  for (const text of ["./abcdefghij:/x", "/a:/b", "a", "C:/x"]) {
    assert.equal(parseSessionPath(text), undefined, text);
  }
});

Deno.test("a run without a prompt needs a terminal", () => {
  assert.throws(() => parseRunArguments(["codex"]), /without one the agent's own interface needs a terminal/);
  assert.throws(() => parseRunArguments(["codex", " "]), /A prompt is needed/);
});
