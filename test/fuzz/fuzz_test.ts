import { equal, ok, throws } from "node:assert/strict";
import { fuzz, FuzzFailure } from "./fuzzer.ts";
import { fuzzTargets } from "./targets.ts";

/** A taste of what `deno task fuzz` does with a million. */
const COUNT = 4000;

for (const target of fuzzTargets()) {
  Deno.test(`${target.name} takes ${COUNT} mutated inputs`, () => {
    try {
      const { behaviours } = fuzz(target, { count: COUNT, seed: 0xf022 });
      // A target that always does the same sees nothing of its inputs.
      ok(behaviours > 3, `${behaviours} behaviours`);
    } finally {
      target.close?.();
    }
  });
}

Deno.test("the fuzzer finds an input that breaks a target, and the same one again", () => {
  const target = {
    name: "weak",
    corpus: [new Uint8Array(16)],
    run: (input: Uint8Array): string => {
      if (input[3] === 0xff && (input[7] ?? 0) > 16) throw new Error("found");
      return `${input[3]} ${(input[7] ?? 0) > 16}`;
    },
  };
  const find = (): string => {
    try {
      fuzz(target, { count: 1_000_000, seed: 5 });
    } catch (error) {
      if (error instanceof FuzzFailure) return error.message.split("\n").at(-1) ?? "";
      throw error;
    }
    return "";
  };
  const first = find();
  ok(first.startsWith("again: --replay "), first);
  equal(find(), first);
});

Deno.test("the fuzzer calls an input that takes too long a failure", () => {
  const target = {
    name: "slow",
    corpus: [new Uint8Array(1)],
    run: (): string => {
      for (const start = performance.now(); performance.now() - start < 2100;);
      return "";
    },
  };
  throws(() => fuzz(target, { count: 1, seed: 1 }), FuzzFailure);
});
