import { deepEqual } from "node:assert/strict";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** What each folder may import besides itself: DESIGN's table. */
const ALLOWED: Record<string, string[]> = {
  "src/ffi": [],
  "src/memory": [],
  "src/bus": [],
  "src/kvm": ["src/ffi"],
  "src/virtio": ["src/memory", "src/bus"],
  "devices": ["src/virtio", "src/memory", "src/bus"],
  "src/host": ["src/ffi"],
  "src/machine": [
    "src/ffi",
    "src/memory",
    "src/bus",
    "src/kvm",
    "src/virtio",
    "devices",
    "src/host",
    "src/vmm/protocol.ts",
  ],
  "src/vmm": ["src/machine", "src/kvm", "src/ffi", "src/memory"],
  "src/images": ["agent-images"],
  "src/network": ["agent-images"],
  "src/store": [],
  "src/session": [
    "src/vmm/protocol.ts",
    "src/vmm/line_reader.ts",
    "src/images",
    "src/network",
    "agent-images",
  ],
  "src/api": ["src/session", "src/store", "agent-images"],
  "src/emulated": ["src/images", "src/api", "src/local"],
  "src/mcp": ["src/api/client.ts"],
  "src/local": [
    "src/mcp",
    "src/api",
    "src/session",
    "src/images",
    "src/emulated",
    "src/network",
    "src/store",
    "src/vmm/protocol.ts",
    "agent-images",
    "test/support",
  ],
  "src/cli": ["src/api/client.ts", "src/local"],
  "agent-images": [],
};
const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const layerOf = (path: string): string =>
  Object.keys(ALLOWED).find((layer) => path.startsWith(`${layer}/`)) ?? path;

function* sources(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(join(root, folder))) {
    if (entry.isDirectory) yield* sources(`${folder}/${entry.name}`);
    else if (entry.name.endsWith(".ts")) yield `${folder}/${entry.name}`;
  }
}

Deno.test("imports point down, as the table of layers says", () => {
  const wrong: string[] = [];
  for (const file of ["src", "devices", "agent-images"].flatMap((folder) => [...sources(folder)])) {
    const text = Deno.readTextFileSync(join(root, file));
    for (const [, specifier] of text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)) {
      const target = relative(root, resolve(root, dirname(file), specifier ?? ""));
      const allowed = [layerOf(file), ...ALLOWED[layerOf(file)] ?? []];
      if (!allowed.some((prefix) => target === prefix || target.startsWith(`${prefix}/`))) {
        wrong.push(`${file} imports ${target}`);
      }
    }
  }
  deepEqual(wrong, []);
});
