import assert from "node:assert/strict";
import { exitsByCause } from "../../src/session/vm_end.ts";

Deno.test("exitsByCause() has few names, whatever a monitor sends", () => {
  const exits = {
    "port 0x70": 3,
    "port 0x64": 2,
    "other ports": 5,
    mmio: 7,
    hlt: 1,
    'x"} 1': 4,
    "exit 77": 1,
  };
  assert.deepEqual(
    Object.fromEntries(exitsByCause({ type: "stopped", reason: "killed", exits })),
    { port: 10, mmio: 7, hlt: 1, other: 5 },
  );
  assert.equal(exitsByCause({ type: "crashed", exitCode: 1, message: "" }).size, 0);
});
