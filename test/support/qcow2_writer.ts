/**
 * Writes one sector of each cluster of a new overlay, flushes, and prints the cluster's number: a program to be killed.
 *
 * @module
 */

import { Iovec } from "../../src/ffi/iovec.ts";
import { openDisk } from "../../src/host/open_disk.ts";

const CLUSTER = 64 * 1024;
const [path = "", base = ""] = Deno.args;
const iovec = new Iovec(new ArrayBuffer(0), 0n);
const overlayOf = { path: base, format: "raw" } as const;
const disk = openDisk({ path, format: "qcow2", readOnly: false, overlayOf }, iovec);
for (let cluster = 0; cluster < disk.sizeBytes / CLUSTER; cluster++) {
  disk.write([new Uint8Array(512).fill((cluster % 255) + 1)], cluster * CLUSTER + 512);
  disk.flush();
  Deno.stdout.writeSync(new TextEncoder().encode(`${cluster}\n`));
}
