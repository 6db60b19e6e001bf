import { deepEqual, equal } from "node:assert/strict";
import { type BootMarker, BootMarkerPort } from "../../devices/boot_marker.ts";

Deno.test("BootMarkerPort reports each marker once, and nothing else", () => {
  const seen: BootMarker[] = [];
  const port = new BootMarkerPort((marker) => seen.push(marker));
  for (const value of [0, 1, 1, 3, 255, 2, 1, 2]) port.write(0, 1, value);
  deepEqual(seen, ["init", "ready"]);
  equal(port.read(), 0);
});

Deno.test("BootMarkerPort ignores wide writes", () => {
  const seen: BootMarker[] = [];
  const port = new BootMarkerPort((marker) => seen.push(marker));
  port.write(0, 2, 1);
  port.write(0, 4, 2);
  deepEqual(seen, []);
});
