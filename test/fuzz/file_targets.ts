/**
 * Files that a user may have from somewhere else: disk images and kernels.
 *
 * @module
 */

import { SysError } from "../../src/ffi/errno.ts";
import { Iovec } from "../../src/ffi/iovec.ts";
import { openDisk } from "../../src/host/open_disk.ts";
import { newQcow2Image, Qcow2Error } from "../../src/host/qcow2_header.ts";
import { ConfigError } from "../../src/machine/config.ts";
import { loadKernel } from "../../src/machine/load_kernel.ts";
import { GuestMemory } from "../../src/memory/guest_memory.ts";
import { bzImageOf } from "../support/bzimage.ts";
import { exists, hasTool, run } from "../support/command.ts";
import { elfOf } from "../support/tiny_guest.ts";
import type { FuzzTarget } from "./fuzzer.ts";

/** In memory where there is such a place: every input is written to a file, and images are flushed. */
const TEMP = exists("/dev/shm") ? { dir: "/dev/shm", prefix: "paddock-fuzz-" } : { prefix: "paddock-fuzz-" };
const CLUSTER = 512;
const IMAGE_KIB = 512;
/** A damaged image may name clusters far away; the file must not grow to there. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;

/** qcow2 metadata: opens the image, reads, writes and zeroes. */
export function qcow2Target(): FuzzTarget {
  const folder = Deno.makeTempDirSync(TEMP);
  const path = `${folder}/image.qcow2`;
  const iovec = new Iovec(new ArrayBuffer(0), 0n);
  const data = new Uint8Array(3 * CLUSTER).fill(3);
  return {
    name: "qcow2",
    corpus: smallImages(folder),
    run: (input) => {
      Deno.writeFileSync(path, input);
      try {
        using disk = openDisk({ path, format: "qcow2", readOnly: false }, iovec);
        const last = Math.max(0, disk.sizeBytes - data.byteLength);
        for (const diskOffset of [0, 5 * CLUSTER, last - last % CLUSTER]) {
          disk.extents("read", diskOffset, Math.min(data.byteLength, disk.sizeBytes));
          disk.read([data.slice(0, Math.min(data.byteLength, disk.sizeBytes))], diskOffset);
          disk.write([data.subarray(0, Math.min(700, disk.sizeBytes))], diskOffset);
          disk.writeZeroes(diskOffset, Math.min(CLUSTER, disk.sizeBytes), true);
        }
        disk.flush();
        const { size } = Deno.statSync(path);
        if (size > MAX_FILE_BYTES) return "sparse";
        return `ok ${disk.sizeBytes % 7}`;
      } catch (error) {
        if (error instanceof Qcow2Error || error instanceof SysError) return error.message.slice(0, 60);
        throw error;
      }
    },
    close: () => Deno.removeSync(folder, { recursive: true }),
  };
}

function smallImages(folder: string): Uint8Array<ArrayBuffer>[] {
  const fresh = newQcow2Image(64 * 1024).slice(0, 4 * 65_536);
  if (!hasTool("qemu-img")) return [fresh];
  const path = `${folder}/made.qcow2`;
  const raw = `${folder}/raw`;
  Deno.writeFileSync(raw, new Uint8Array(IMAGE_KIB * 1024).fill(1, 0, 8 * CLUSTER));
  const options = `cluster_size=${CLUSTER}`;
  run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, path, `${IMAGE_KIB}K`]);
  const empty = Deno.readFileSync(path);
  run("qemu-img", ["convert", "-q", "-O", "qcow2", "-o", options, raw, path]);
  const filled = Deno.readFileSync(path);
  run("qemu-img", ["convert", "-q", "-c", "-O", "qcow2", "-o", options, raw, path]);
  return [empty, filled, Deno.readFileSync(path)];
}

/** ELF and bzImage kernels: loads them into 4 MiB of RAM. */
export function kernelTarget(): FuzzTarget {
  const folder = Deno.makeTempDirSync(TEMP);
  const path = `${folder}/kernel`;
  const memory = new GuestMemory(new ArrayBuffer(4 * 1024 * 1024));
  return {
    name: "kernel",
    corpus: [
      elfOf(Uint8Array.of(0xf4)),
      bzImageOf(new Uint8Array(2048).fill(0x90)),
      bzImageOf(new Uint8Array(64), { xloadflags: 0, version: 0x206 }),
    ],
    run: (input) => {
      Deno.writeFileSync(path, input);
      try {
        const { entry, entryAddr, endAddr } = loadKernel(path, memory);
        if (!memory.contains(entryAddr, 1) || endAddr > 4 * 1024 * 1024) {
          throw new Error(`entry ${entryAddr}, end ${endAddr}`);
        }
        return entry;
      } catch (error) {
        if (error instanceof ConfigError) return error.message.replaceAll(/[0-9]+/g, "").slice(0, 60);
        throw error;
      }
    },
    close: () => Deno.removeSync(folder, { recursive: true }),
  };
}
