/**
 * Benches of Linux guests where this machine's KVM cannot run them: this program again, in the emulated host.
 *
 * @module
 */

import { basename, join } from "node:path";
import { exchangeDir, execInEmulatedHost, startEmulatedHost } from "../../src/emulated/host.ts";
import type { OnProgress } from "../../src/images/progress.ts";
import type { Report } from "./report.ts";

/** The bench in the emulated host ended without a report. */
export class InsideError extends Error {
  override readonly name = "InsideError";
}

/** Runs `main.ts` with these arguments in the emulated host, its messages on our stderr; the report that it prints. */
export async function runInEmulatedHost(args: readonly string[], onProgress: OnProgress): Promise<Report> {
  const host = await startEmulatedHost({ onProgress });
  const script = 'cd /paddock && exec deno run --quiet --no-check --no-lock -A test/bench/main.ts "$@"';
  const child = execInEmulatedHost(host, { argv: ["sh", "-c", script, "bench", ...args] });
  // Ctrl-C ends what runs in there too
  const onInterrupt = (): void => {
    child.kill();
    Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    const [text] = await Promise.all([
      new Response(child.stdout).text(),
      child.stderr.pipeTo(Deno.stderr.writable, { preventClose: true }),
    ]);
    const { code } = await child.status;
    if (code !== 0) throw new InsideError(`The bench in the emulated host ended with ${code}: ${text}`);
    const report = JSON.parse(text) as Report;
    return { ...report, rows: report.rows.map((row) => ({ ...row, where: "emulated host" })) };
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
}

/** Copies a file to where the emulated host sees it; its path there. */
export async function shareFile(path: string): Promise<string> {
  const folder = join(exchangeDir(), "bench");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.copyFile(path, join(folder, basename(path)));
  return `/exchange/bench/${basename(path)}`;
}
