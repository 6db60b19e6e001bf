/**
 * Runs the command line as a user does, in a process of its own, and looks at the host that runs the VMs.
 *
 * @module
 */

import assert from "node:assert/strict";
import { chooseHost, type HostKind } from "../../src/local/host_choice.ts";
import { stateDir } from "../../src/images/paths.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const PERMISSIONS = ["read", "write", "run", "net", "env", "sys"].map((name) => `--allow-${name}`);

/** What a run of the command line gave. */
export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

/** A command line that is running. */
export interface CliChild {
  readonly pid: number;
  /** resolves once stdout holds the text */
  sees(text: string): Promise<void>;
  kill(signal: Deno.Signal): void;
  readonly result: Promise<CliResult>;
}

/** The words that start the command line. */
export function sandboxCommand(...args: readonly string[]): string[] {
  return [Deno.execPath(), "run", "--quiet", ...PERMISSIONS, MAIN, ...args];
}

/** Starts the command line. */
export function startSandbox(args: readonly string[], env: Record<string, string> = {}): CliChild {
  const [program = "", ...rest] = sandboxCommand(...args);
  const start = performance.now();
  const child = new Deno.Command(program, {
    args: rest,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let stdout = "";
  const watchers = new Set<() => void>();
  const reading = (async (): Promise<void> => {
    for await (
      const text of child.stdout.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
    ) {
      stdout += text;
      for (const watcher of watchers) watcher();
    }
  })();
  const stderr = new Response(child.stderr).text();
  const result = (async (): Promise<CliResult> => {
    const [status, errors] = await Promise.all([child.status, stderr, reading]);
    return { code: status.code, stdout, stderr: errors, ms: performance.now() - start };
  })();
  return {
    pid: child.pid,
    result,
    kill: (signal) => child.kill(signal),
    sees(text): Promise<void> {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          if (stdout.includes(text)) resolve();
        };
        watchers.add(look);
        look();
        void result.then(({ code, stderr }) =>
          reject(new Error(`Ended with ${code} before "${text}": ${stderr}`))
        );
      });
    },
  };
}

/** Runs the command line to its end. */
export async function sandbox(args: readonly string[], env: Record<string, string> = {}): Promise<CliResult> {
  return await startSandbox(args, env).result;
}

/** Kind of host that runs the VMs. */
export async function hostKind(): Promise<HostKind> {
  return (await chooseHost(stateDir())).kind;
}

/** Runs a shell script as root on the host that runs the VMs; STATE is its state folder. */
export async function onVmHost(script: string): Promise<string> {
  const isNative = await hostKind() === "native";
  const state = isNative ? stateDir() : "$PADDOCK_STATE";
  const full = `export PATH=$PATH:/usr/sbin:/sbin; STATE="${state}"; ${script}`;
  if (!isNative) {
    const { code, stdout, stderr } = await sandbox(["host", "exec", "--", "sh", "-c", full]);
    assert.equal(code, 0, `${script}: ${stdout} ${stderr}`);
    return stdout;
  }
  const output = await new Deno.Command("sh", { args: ["-c", full], stdin: "null" }).output();
  assert.equal(output.code, 0, `${script}: ${new TextDecoder().decode(output.stderr)}`);
  return new TextDecoder().decode(output.stdout);
}

/** Extended regular expression of a VMM process's command line, which this text itself does not match. */
export const VMM_PATTERN = "[/]monitor/[0-9a-f]+/main.js|[s]rc/vmm/main.ts";

/** Shell commands that print everything that a session could leave, one thing a line; STATE is the state folder. */
export const STATE_LEFTOVERS = `
  ip netns list 2>/dev/null | grep '^pdk-'
  nft list tables 2>/dev/null | grep ' pdk-'; ls /run/paddock-nat 2>/dev/null
  for folder in sessions tasks uploads kept; do ls "$STATE/$folder" 2>/dev/null | sed "s|^|$folder/|"; done
  for pid in $(ls /proc | grep '^[0-9]*$'); do
    tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -E '${VMM_PATTERN}|[s]ocat .*(TCP4-LISTEN|UDP4-RECVFROM)'
  done
  true
`;

/** Waits until nothing of any session is left, or fails with what is. */
export async function assertNothingLeft(limitMs = 0): Promise<void> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const left = await onVmHost(STATE_LEFTOVERS);
    if (left.trim() === "") return;
    assert.ok(performance.now() < deadline, `left behind: ${left}`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** A folder that is removed after use. */
export async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-e2e-" });
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs a shell script that must succeed, and gives what it printed. */
export async function shell(script: string, cwd: string): Promise<string> {
  const env = {
    GIT_AUTHOR_NAME: "t",
    GIT_AUTHOR_EMAIL: "t@t",
    GIT_COMMITTER_NAME: "t",
    GIT_COMMITTER_EMAIL: "t@t",
  };
  const output = await new Deno.Command("sh", { args: ["-ec", script], cwd, env, stdin: "null" }).output();
  const text = new TextDecoder();
  assert.equal(output.code, 0, `${script}: ${text.decode(output.stdout)} ${text.decode(output.stderr)}`);
  return text.decode(output.stdout);
}
