import { deepEqual, equal, ok } from "node:assert/strict";
import { RateGate, RateLimiter } from "../../devices/rate_limiter.ts";

Deno.test("RateLimiter lets a second's worth pass at once, and then the rate", () => {
  let now = 0;
  const limiter = new RateLimiter({ operationsPerSecond: 100 }, () => now);
  let passed = 0;
  const run = (untilMs: number): void => {
    while (now < untilMs) {
      const wait = limiter.waitMs();
      if (wait > 0) now += wait;
      else {
        limiter.charge(4096);
        passed++;
      }
    }
  };
  run(1);
  equal(passed, 100);
  run(10_000);
  ok(passed >= 1090 && passed <= 1101, String(passed));
});

Deno.test("RateLimiter makes what follows a large request wait for all of it", () => {
  let now = 0;
  const limiter = new RateLimiter({ bytesPerSecond: 1_000_000 }, () => now);
  limiter.charge(5_000_000);
  const wait = limiter.waitMs();
  ok(wait >= 4000 && wait <= 4002, String(wait));
  now += wait;
  equal(limiter.waitMs(), 0);
});

Deno.test("RateLimiter does not save up more than a second's worth, and no limit is none", () => {
  let now = 0;
  const limiter = new RateLimiter({ bytesPerSecond: 1000, operationsPerSecond: 1_000_000 }, () => now);
  now = 3_600_000;
  equal(limiter.waitMs(), 0);
  limiter.charge(2000);
  ok(limiter.waitMs() > 990);
  const free = new RateLimiter({}, () => now);
  free.charge(2 ** 40);
  equal(free.waitMs(), 0);
});

Deno.test("RateGate serves another queue first each time, and comes back for what is left", () => {
  const wakes: number[] = [];
  const gate = new RateGate(undefined, (delayMs) => wakes.push(delayMs));
  const served: number[] = [];
  for (let round = 0; round < 4; round++) {
    gate.reopen(3, (queueIndex) => {
      served.push(queueIndex);
      return round === 3 && queueIndex === 1;
    });
  }
  deepEqual(served, [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]);
  deepEqual(wakes, [0]);
  gate.reopen(0, () => true);
  deepEqual(wakes, [0]);
});
