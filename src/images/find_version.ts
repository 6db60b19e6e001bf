/**
 * Asks the npm registry for versions of an agent, and makes of one what an image is built from.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "./build_once.ts";
import { choiceFolder, type VersionChoice } from "./chosen_version.ts";
import { runCommand } from "./command.ts";
import { ImageError } from "./image_error.ts";
import { explainNpm, type NpmPackage } from "./npm_package.ts";
import type { ImageSpec } from "./prepare.ts";

/** A release: what stands behind a `-` is a prerelease, or another platform's build. */
const RELEASE = /^\d{1,9}\.\d{1,9}\.\d{1,9}$/;
const INTEGRITY = /^sha512-[A-Za-z0-9+/]{86}==$/;

async function view(name: string, field: string, signal: AbortSignal): Promise<unknown> {
  let printed: string;
  try {
    printed = await runCommand(["npm", "view", name, field, "--json", "--loglevel", "error"], { signal });
  } catch (error) {
    throw explainNpm(error, name);
  }
  try {
    return JSON.parse(printed);
  } catch {
    return undefined; // it prints nothing where there is no such version
  }
}

/** The version that the registry calls the latest. @throws {ImageError} when that is no release */
export async function latestVersion(packageName: string, signal: AbortSignal): Promise<string> {
  const version = await view(packageName, "dist-tags.latest", signal);
  if (typeof version === "string" && RELEASE.test(version)) return version;
  throw new ImageError(
    "unreachable",
    `The registry's latest version of ${packageName} is no release`,
    "Name one with --to VERSION",
  );
}

/** What an image of `version` is built from, with the hashes that the registry gives. @throws {ImageError} */
export async function resolveVersion(
  cacheDir: string,
  spec: ImageSpec,
  options: { readonly version: string; readonly packageName: string; readonly signal: AbortSignal },
): Promise<VersionChoice> {
  const { version, packageName, signal } = options;
  if (!RELEASE.test(version)) {
    throw new ImageError("unreachable", `"${version.slice(0, 60)}" is no release`, "Versions are like 1.2.3");
  }
  const npm = await Promise.all(spec.npm.map((wanted) => atVersion(wanted, { spec, version, signal })));
  const choice = { pinned: spec.version, version, npm };
  if (spec.npmTree === undefined) return choice;
  const treeFolder = choiceFolder(spec.name, version);
  await lockTree(join(cacheDir, treeFolder), `${packageName}@${version}`, signal);
  return { ...choice, treeFolder };
}

/** A package that has the agent's version gets the new one, with what follows it (`-linux-x64`); others stay. */
async function atVersion(
  wanted: NpmPackage,
  { spec, version, signal }: {
    readonly spec: ImageSpec;
    readonly version: string;
    readonly signal: AbortSignal;
  },
): Promise<NpmPackage> {
  if (wanted.version !== spec.version && !wanted.version.startsWith(`${spec.version}-`)) return wanted;
  const next = version + wanted.version.slice(spec.version.length);
  const integrity = await view(`${wanted.name}@${next}`, "dist.integrity", signal);
  if (typeof integrity === "string" && INTEGRITY.test(integrity)) {
    return { ...wanted, version: next, integrity };
  }
  const hint = "See npm view, and name another version with --to";
  throw new ImageError("unreachable", `The npm registry has no ${wanted.name}@${next}`, hint);
}

/** Has npm choose the versions of all that a package depends on; nothing is installed and no script runs. */
async function lockTree(folder: string, what: string, signal: AbortSignal): Promise<void> {
  await removeAll(folder);
  await Deno.mkdir(folder, { recursive: true });
  const name = what.slice(0, what.lastIndexOf("@"));
  const dependencies = { [name]: what.slice(name.length + 1) };
  const content = { name: "agent-image", private: true, dependencies };
  await Deno.writeTextFile(join(folder, "package.json"), JSON.stringify(content) + "\n");
  const flags = ["--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"];
  try {
    await runCommand(["npm", "install", ...flags], { cwd: folder, signal });
  } catch (error) {
    throw explainNpm(error, what);
  }
}
