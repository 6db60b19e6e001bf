/**
 * Alpine's package index: its records, and which packages a wish needs.
 *
 * @module
 */
import { join } from "node:path";
import { untrusted } from "./apk_segments.ts";
import { exists } from "./build_once.ts";
import { ImageError } from "./image_error.ts";

/** A package, as the index describes it. */
export interface Apk {
  readonly name: string;
  readonly version: string;
  /** base64 SHA-1 of the control segment */
  readonly controlSha1: string;
  readonly sizeBytes: number;
  readonly depends: readonly string[];
  readonly provides: readonly string[];
}

/** Caps on what the index can make this process fetch. */
const MAX_PACKAGE_BYTES = 64 * 2 ** 20;
const MAX_PACKAGES = 100;

/** Reads the records of an APKINDEX, or of a root's list of installed packages. */
export function parseApkIndex(text: string): Apk[] {
  return text.split(/\n\n+/).flatMap((record) => {
    const fields = new Map(record.split("\n").map((line) => [line.slice(0, 2), line.slice(2)]));
    const words = (key: string): string[] => (fields.get(key) ?? "").split(" ").filter((word) => word !== "");
    const name = fields.get("P:") ?? "";
    if (name === "") return [];
    return [{
      name,
      version: fields.get("V:") ?? "",
      controlSha1: /^Q1(.+)$/.exec(fields.get("C:") ?? "")?.[1] ?? "",
      sizeBytes: Number(fields.get("S:") ?? NaN),
      depends: words("D:").filter((word) => !word.startsWith("!")).map(bareName),
      provides: [name, ...words("p:").map(bareName)],
    }];
  });
}

/** `name>=1.2` and `so:libz.so.1=1.3` without their versions. */
function bareName(word: string): string {
  return word.replace(/[<>=~@].*$/, "");
}

/**
 * Returns the packages of `index` that `wanted` needs and the root lacks, in name order.
 * @throws {ImageError} when no package provides what one depends on
 */
export async function resolveApks(
  wanted: readonly string[],
  { index, installed, root }: { index: readonly Apk[]; installed: readonly Apk[]; root: string },
): Promise<Apk[]> {
  const providers = new Map<string, Apk[]>();
  for (const apk of index) {
    for (const name of apk.provides) providers.set(name, [...providers.get(name) ?? [], apk]);
  }
  const there = new Set(installed.flatMap((apk) => apk.provides));
  const chosen = new Map<string, Apk>();
  const queue = wanted.map((name) => ({ name, by: "" }));
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { name, by } = next;
    if (there.has(name) || name.startsWith("/") && await exists(join(root, name))) continue;
    const found = (providers.get(name) ?? []).toSorted((a, b) => rank(a, name) < rank(b, name) ? -1 : 1)[0];
    if (found === undefined) throw missing(by === "" ? `"${name}"` : `"${name}", which ${by} needs`);
    checkRecord(found);
    chosen.set(found.name, found);
    if (chosen.size > MAX_PACKAGES) throw untrusted("Alpine's packages depend on too many others");
    for (const provided of found.provides) there.add(provided);
    queue.push(...found.depends.map((dependency) => ({ name: dependency, by: found.name })));
  }
  return [...chosen.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** The package of that name before those that provide it, else in name order. */
function rank(apk: Apk, name: string): string {
  return `${apk.name === name ? 0 : 1}${apk.name}`;
}

function checkRecord(apk: Apk): void {
  const plain = /^[A-Za-z0-9][\w.+-]*$/;
  const sized = apk.sizeBytes > 0 && apk.sizeBytes <= MAX_PACKAGE_BYTES;
  if (plain.test(apk.name) && plain.test(apk.version) && apk.controlSha1 !== "" && sized) return;
  throw untrusted(`The package index of Alpine's CDN has no usable entry for "${apk.name}"`);
}

function missing(what: string): ImageError {
  return new ImageError(
    "unreachable",
    `Alpine's repository has no package ${what}`,
    "Give the root file system of a release that Alpine still serves with --alpine-rootfs FILE",
  );
}
