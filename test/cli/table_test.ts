import assert from "node:assert/strict";
import { renderImages } from "../../src/cli/commands/images.ts";
import { formatBytes } from "../../src/cli/quantities.ts";
import { formatAge, renderTable } from "../../src/cli/table.ts";

Deno.test("renderTable() aligns columns and leaves no blanks at the end", () => {
  assert.deepEqual(renderTable(["A", "B"], [["long", "x"], ["s", ""]]), ["A     B", "long  x", "s"]);
});

Deno.test("formatAge() and formatBytes() take the unit that fits", () => {
  const now = new Date(1_000_000_000);
  const ages = [30, 3 * 3600, 3 * 86_400].map((seconds) =>
    formatAge(new Date(now.getTime() - seconds * 1000), now)
  );
  assert.deepEqual(ages, ["1 min", "3 h", "3 days"]);
  assert.deepEqual([formatBytes(507 * 2 ** 20), formatBytes(3 * 2 ** 29)], ["507.0 MiB", "1.50 GiB"]);
});

Deno.test("renderImages() says what to do where there is none", () => {
  assert.match(renderImages([], new Date()).join(), /first run/);
});
