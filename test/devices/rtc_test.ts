import { equal } from "node:assert/strict";
import { Rtc } from "../../devices/rtc.ts";

Deno.test("Rtc shows the time in BCD, which is how Linux reads it whatever register B says", () => {
  const rtc = new Rtc(() => new Date("2026-11-22T15:47:48Z"));
  const register = (index: number): number => {
    rtc.write(0, 1, index);
    return rtc.read(1);
  };
  const time = [0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map((index) => register(index).toString(16));
  equal(time.join(" "), "20 26 11 22 15 47 48");
  equal(register(0x06), 1, "Sunday is the first day");
  // 24 hours, not binary; valid; no update in progress
  equal(register(0x0b), 0x02);
  equal(register(0x0d), 0x80);
  equal(register(0x0a), 0);
});
