import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { Iovec } from "../../src/ffi/iovec.ts";
import { type Disk, openDisk } from "../../src/host/open_disk.ts";
import { newQcow2Image, parseQcow2Header, Qcow2Error } from "../../src/host/qcow2_header.ts";
import { Random } from "../support/random.ts";
import { hasTool, run } from "../support/command.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER = 64 * KIB;
const iovec = new Iovec(new ArrayBuffer(0), 0n);
const withoutQemuImg = !hasTool("qemu-img");

function inFolder(test: (folder: string) => void): () => void {
  return () => {
    const folder = Deno.makeTempDirSync({ prefix: "paddock-qcow2-" });
    try {
      test(folder);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  };
}

/** An overlay over a raw file with these bytes, and what the two together should read as. */
function overlay(
  folder: string,
  base: Uint8Array<ArrayBuffer>,
): { disk: Disk; path: string; expected: Uint8Array<ArrayBuffer> } {
  Deno.writeFileSync(`${folder}/base.raw`, base);
  const path = `${folder}/overlay.qcow2`;
  const overlayOf = { path: `${folder}/base.raw`, format: "raw" } as const;
  return {
    disk: openDisk({ path, format: "qcow2", readOnly: false, overlayOf }, iovec),
    path,
    expected: base.slice(),
  };
}

function readAll(disk: Disk): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(disk.sizeBytes);
  disk.read([bytes], 0);
  return bytes;
}

function convertToRaw(path: string): Uint8Array {
  run("qemu-img", ["convert", "-O", "raw", path, `${path}.raw`]);
  return Deno.readFileSync(`${path}.raw`);
}

Deno.test(
  "Qcow2Disk reads its backing file until it is written, and never writes it",
  inFolder((folder) => {
    const base = new Random(3).bytes(MIB);
    const { disk } = overlay(folder, base);
    using _ = disk;
    deepEqual(readAll(disk), base);
    disk.write([new Uint8Array(10).fill(1)], 100);
    deepEqual(Deno.readFileSync(`${folder}/base.raw`), base);
    const read = new Uint8Array(12);
    disk.read([read], 99);
    deepEqual([...read], [base[99], ...Array(10).fill(1), base[110]]);
  }),
);

Deno.test({
  name: "Qcow2Disk keeps random writes, zeroes and discards as a plain buffer does, and qemu-img agrees",
  ignore: withoutQemuImg,
  fn: inFolder((folder) => {
    const random = new Random(0x9c0a2);
    // A size that is no whole number of clusters, and a backing file that is
    const { disk, path, expected } = overlay(folder, random.bytes(3 * MIB + 5 * 512));
    for (let step = 0; step < 400; step++) {
      const diskOffset = random.below(expected.length / 512) * 512;
      const sizeBytes = Math.min(expected.length - diskOffset, (1 + random.below(300)) * 512);
      switch (random.below(4)) {
        case 0:
        case 1: {
          const data = random.bytes(sizeBytes);
          const cut = random.below(sizeBytes);
          disk.write([data.subarray(0, cut), data.subarray(cut)], diskOffset);
          expected.set(data, diskOffset);
          break;
        }
        case 2:
          disk.writeZeroes(diskOffset, sizeBytes, random.below(2) === 0);
          expected.fill(0, diskOffset, diskOffset + sizeBytes);
          break;
        case 3: {
          const read = new Uint8Array(sizeBytes);
          disk.read([read], diskOffset);
          deepEqual(read, expected.slice(diskOffset, diskOffset + sizeBytes), `step ${step}`);
        }
      }
    }
    disk.flush();
    disk[Symbol.dispose]();
    run("qemu-img", ["check", path]);
    deepEqual(convertToRaw(path), expected);
    using again = openDisk({ path, format: "qcow2", readOnly: false }, iovec);
    deepEqual(readAll(again), expected);
  }),
});

Deno.test({
  name: "Qcow2Disk uses freed clusters again instead of growing",
  ignore: withoutQemuImg,
  fn: inFolder((folder) => {
    const { disk, path } = overlay(folder, new Uint8Array(MIB));
    const data = new Uint8Array(CLUSTER).fill(5);
    disk.write([data], 0);
    const grown = Deno.statSync(path).size;
    for (let round = 0; round < 20; round++) {
      disk.writeZeroes(0, CLUSTER, true);
      disk.write([data], CLUSTER * (round % 16));
      disk.writeZeroes(CLUSTER * (round % 16), CLUSTER, true);
    }
    ok(Deno.statSync(path).size <= grown + 2 * CLUSTER);
    disk[Symbol.dispose]();
    run("qemu-img", ["check", path]);
  }),
});

Deno.test({
  name: "Qcow2Disk makes further refcount blocks when one is full",
  ignore: withoutQemuImg,
  fn: inFolder((folder) => {
    // Clusters of 512 bytes: a refcount block counts 256, so 4 MiB need dozens.
    const path = `${folder}/small.qcow2`;
    run("qemu-img", ["create", "-f", "qcow2", "-o", "cluster_size=512", path, "4M"]);
    const disk = openDisk({ path, format: "qcow2", readOnly: false }, iovec);
    const data = new Random(8).bytes(MIB);
    disk.write([data], 2 * MIB);
    disk[Symbol.dispose]();
    run("qemu-img", ["check", path]);
    deepEqual(convertToRaw(path).subarray(2 * MIB, 3 * MIB), data);
  }),
});

Deno.test({
  name: "Qcow2Disk reads compressed clusters, and writes over them",
  ignore: withoutQemuImg,
  fn: inFolder((folder) => {
    const content = new TextEncoder().encode("all work and no play ".repeat(20_000)).slice(0, 6 * CLUSTER);
    Deno.writeFileSync(`${folder}/plain.raw`, content);
    const path = `${folder}/packed.qcow2`;
    run("qemu-img", ["convert", "-c", "-O", "qcow2", `${folder}/plain.raw`, path]);
    const disk = openDisk({ path, format: "qcow2", readOnly: false }, iovec);
    deepEqual(readAll(disk), content);
    const data = new Random(4).bytes(2 * CLUSTER);
    disk.write([data], CLUSTER + 512);
    content.set(data, CLUSTER + 512);
    disk[Symbol.dispose]();
    run("qemu-img", ["check", path]);
    deepEqual(convertToRaw(path), content);
  }),
});

Deno.test({
  name: "an image that is killed in the middle of writes has no error, and holds what was flushed",
  ignore: withoutQemuImg,
  fn: async () => {
    const folder = Deno.makeTempDirSync({ prefix: "paddock-qcow2-" });
    try {
      for (let round = 0; round < 5; round++) {
        const path = `${folder}/${round}.qcow2`;
        Deno.writeFileSync(`${folder}/base.raw`, new Uint8Array(32 * MIB));
        const writer = new Deno.Command(Deno.execPath(), {
          args: [
            "run",
            "-A",
            "--no-lock",
            new URL("../support/qcow2_writer.ts", import.meta.url).pathname,
            path,
            `${folder}/base.raw`,
          ],
          stdout: "piped",
        }).spawn();
        let flushed = -1;
        const decoder = new TextDecoder();
        const reader = writer.stdout.getReader();
        // Each line names a cluster that was flushed; kill after some of them, at no particular point.
        while (flushed < 20 + round * 7) {
          const { value, done } = await reader.read();
          if (done) break;
          flushed = Number(decoder.decode(value).trim().split("\n").at(-1));
        }
        writer.kill("SIGKILL");
        await writer.status;
        await reader.cancel();
        const check = JSON.parse(run("qemu-img", ["check", "--output=json", path], [0, 3]));
        equal(check.corruptions ?? 0, 0);
        equal(check["check-errors"], 0);
        using disk = openDisk({ path, format: "qcow2", readOnly: true }, iovec);
        for (let cluster = 0; cluster <= flushed; cluster++) {
          const bytes = new Uint8Array(512);
          disk.read([bytes], cluster * CLUSTER + 512);
          equal(bytes[0], (cluster % 255) + 1, `cluster ${cluster} of round ${round}`);
        }
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});

Deno.test("parseQcow2Header refuses images that it does not support", () => {
  const change = (offset: number, value: number): Uint8Array => {
    const image = newQcow2Image(MIB);
    new DataView(image.buffer).setUint32(offset, value);
    return image;
  };
  const wrong: [string, Uint8Array][] = [
    ["magic", change(0, 0)],
    ["version", change(4, 2)],
    ["cluster_bits", change(20, 40)],
    ["encryption", change(32, 1)],
    ["l1_size", change(36, 0xffff_ffff)],
    ["l1 offset", change(44, 1)],
    ["refcount table", change(56, 0x7fff_ffff)],
    ["incompatible features", change(76, 4)],
    ["refcount_order", change(96, 6)],
    ["backing name", change(12, 0xffff_fff0)],
    ["short", newQcow2Image(MIB).subarray(0, 50)],
  ];
  for (const [name, image] of wrong) throws(() => parseQcow2Header(image), Qcow2Error, name);
  const backing = { path: "/a/b.raw", format: "raw" } as const;
  deepEqual(parseQcow2Header(newQcow2Image(MIB, backing)).backing, backing);
});

Deno.test(
  "Qcow2Disk answers random metadata with an error, and nothing else",
  inFolder((folder) => {
    const random = new Random(0xfa22);
    const data = new Uint8Array(1024);
    for (let round = 0; round < 300; round++) {
      const image = newQcow2Image(MIB);
      for (let change = 0; change < 8; change++) {
        // header, refcount table, refcount block and L1 table
        image[random.below(4) * CLUSTER + random.below(112)] = random.below(256);
      }
      const path = `${folder}/fuzz.qcow2`;
      Deno.writeFileSync(path, image);
      try {
        using disk = openDisk({ path, format: "qcow2", readOnly: false }, iovec);
        disk.read([data], random.below(1000) * 512);
        disk.write([data], random.below(1000) * 512);
      } catch (error) {
        const known = error instanceof Qcow2Error || (error as Error).name === "SysError";
        ok(known, `seed 0xfa22 round ${round}: ${error}`);
      }
    }
  }),
);
