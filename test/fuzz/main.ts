/**
 * `deno task fuzz [TARGET…] [--inputs N] [--seed S] [--replay BASE64] [--json]`: mutated inputs against the code that
 * takes bytes from guests and strangers. Ends with 1 at the first input that breaks a target.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { fuzz, FuzzFailure } from "./fuzzer.ts";
import { fuzzTargets } from "./targets.ts";

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    inputs: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    replay: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const [count, seed] = [Number(values.inputs), Number(values.seed)];
const targets = fuzzTargets();
const unknown = positionals.find((name) => !targets.some((target) => target.name === name));
if (unknown !== undefined || !Number.isSafeInteger(count) || !Number.isSafeInteger(seed)) {
  const names = targets.map(({ name }) => name).join(" ");
  console.error(
    `Usage: deno task fuzz [TARGET…] [--inputs N] [--seed S] [--replay BASE64]; targets: ${names}`,
  );
  Deno.exit(2);
}

try {
  for (const target of targets) {
    if (positionals.length > 0 && !positionals.includes(target.name)) continue;
    if (values.replay !== undefined) {
      console.log(`${target.name}: ${target.run(Uint8Array.fromBase64(values.replay))}`);
      continue;
    }
    const report = fuzz(target, { count, seed });
    const rate = Math.round(report.inputs / report.elapsedMs * 1000);
    console.log(
      values.json
        ? JSON.stringify({ target: target.name, ...report })
        : `${target.name}: ${report.inputs} inputs, ${report.behaviours} behaviours, ${rate} a second, slowest ${
          report.slowestMs.toFixed(1)
        } ms`,
    );
  }
} catch (error) {
  console.error(error instanceof FuzzFailure ? error.message : error);
  Deno.exitCode = 1;
} finally {
  for (const target of targets) target.close?.();
}
