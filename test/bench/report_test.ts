import { deepEqual, equal } from "node:assert/strict";
import { fillTemplate } from "./boot.ts";
import { tableOf } from "./readme_table.ts";
import { isMet, ratioOf, type Row } from "./report.ts";
import { alternate, summarise } from "./series.ts";

const ROW: Row = {
  what: "round trips",
  unit: "1/s",
  contenders: { paddock: summarise([90, 110, 100]), qemu: summarise([50]), "qemu, vhost": summarise([200]) },
  goal: { ratio: { atLeast: 1 } },
};

Deno.test("summarise() gives the middle value, and the mean of the two middle ones", () => {
  deepEqual(summarise([5, 1, 3]), { median: 3, min: 1, max: 5, count: 3 });
  equal(summarise([4, 1, 3, 2]).median, 2.5);
});

Deno.test("alternate() takes contenders in turn, and leaves out the first round", async () => {
  const order: string[] = [];
  const measure = (name: string) => () => Promise.resolve(order.push(name));
  const values = await alternate({ a: measure("a"), b: measure("b") }, 2);
  deepEqual(order, ["a", "b", "a", "b", "a", "b"]);
  deepEqual(values, { a: [3, 5], b: [4, 6] });
});

Deno.test("a row's ratio and goal are those of ours to the first peer", () => {
  equal(ratioOf(ROW), 2);
  equal(isMet(ROW), true);
  equal(isMet({ ...ROW, goal: { ratio: { atMost: 1 } } }), false);
  equal(isMet({ ...ROW, goal: { atMost: 99 } }), false);
  equal(isMet({ ...ROW, contenders: { paddock: summarise([1]) } }), undefined);
});

Deno.test("README's table has a line for each row, and says where and when", () => {
  const machine = { cpu: "Fast CPU", cpus: 2, kernel: "6.1.0" };
  const lines = tableOf([{
    name: "net",
    rows: [{ ...ROW, where: "emulated host" }],
    machine,
    date: "2026-01-02",
  }]);
  deepEqual(lines.split("\n").filter((line) => line !== "").slice(2), [
    "| round trips *E* | 1/s | 100 | 50.0 (qemu), 200 (qemu, vhost) | 2.00 | ratio >= 1: met |",
    "Measured on Fast CPU, 2 CPUs, Linux 6.1.0, 2026-01-02. *E*: in the emulated host.",
  ]);
});

Deno.test("a peer's command keeps what it is given as one word, spaces and all", () => {
  const guest = { kernel: "/k", cmdline: "a b", memoryMib: 512 };
  deepEqual(
    fillTemplate("vmm -k {kernel} -i {initrd} -m {memory}M -a {cmdline} {other}", guest),
    ["vmm", "-k", "/k", "-i", "/dev/null", "-m", "512M", "-a", "a b", "{other}"],
  );
});
