/**
 * `sandbox.toml`: what a project says about the network of agents that work on it. The file comes with the
 * project, which may be a stranger's: it takes away from what the user allowed, and never gives.
 *
 *     [network]
 *     mode = "none"                     # or "proxy"
 *     allow = ["api.github.com"]        # of what the user allows, only this
 *     profiles = ["packages"]           # and this
 *     deny = ["*.example.org"]          # and never this
 *
 * @module
 */

import { join } from "node:path";
import { parse, TomlError } from "smol-toml";
import {
  EGRESS_MODES,
  EgressPolicy,
  type EgressRequest,
  profileRules,
  type ProjectEgress,
} from "../network/egress_policy.ts";
import { EgressRuleError } from "../network/egress_rule.ts";
import { LocalError } from "./local_error.ts";

export { EGRESS_MODES } from "../network/egress_policy.ts";

/** Name of the file, in the project's folder. */
export const PROJECT_FILE = "sandbox.toml";
const MAX_FILE_BYTES = 64 * 1024;
const NETWORK_KEYS = ["mode", "allow", "profiles", "deny"];

function usage(message: string, cause?: unknown): LocalError {
  return new LocalError("usage", `Cannot use ${PROJECT_FILE}: ${message}`, { cause });
}

function parseToml(text: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (error) {
    // Its message goes on with a picture of the place, over several lines.
    if (error instanceof TomlError) throw usage(`line ${error.line}: ${error.message.split("\n")[0]}`, error);
    throw error;
  }
}

function stringList(table: Record<string, unknown>, key: string): string[] | undefined {
  const value = table[key];
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return value;
  throw usage(`network.${key} must be a list of strings`);
}

/** Reads the text of the file; undefined: it says nothing about the network. @throws {LocalError} */
export function parseProjectFile(text: string): ProjectEgress | undefined {
  const { network } = parseToml(text);
  if (network === undefined) return undefined;
  if (typeof network !== "object" || network === null || Array.isArray(network)) {
    throw usage("network must be a table");
  }
  const table = network as Record<string, unknown>;
  // A key that is not understood might have been meant to take something away.
  const unknown = Object.keys(table).find((key) => !NETWORK_KEYS.includes(key));
  if (unknown !== undefined) throw usage(`network.${unknown} is not known`);
  const mode = EGRESS_MODES.find((known) => known === table["mode"]);
  if (table["mode"] !== undefined && mode === undefined) {
    throw usage(`network.mode must be ${EGRESS_MODES.join(" or ")}`);
  }
  const allow = stringList(table, "allow");
  const profiles = stringList(table, "profiles");
  return {
    source: PROJECT_FILE,
    mode,
    allow: allow === undefined && profiles === undefined
      ? undefined
      : [...allow ?? [], ...(profiles ?? []).flatMap(profileRules)],
    deny: stringList(table, "deny"),
  };
}

async function readProjectFile(folder: string): Promise<string | undefined> {
  const path = join(folder, PROJECT_FILE);
  try {
    // Not through a link: the project chooses where it would lead.
    const info = await Deno.lstat(path);
    if (!info.isFile || info.size > MAX_FILE_BYTES) throw usage("not a file of at most 64 KiB");
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * Completes what the user allows with what the project in `folder` takes away, and checks both.
 *
 * @throws {LocalError} when one of them cannot be understood
 */
export async function networkRequest(
  wanted: Omit<EgressRequest, "project">,
  folder: string | undefined,
): Promise<EgressRequest> {
  try {
    // First the user's own rules: an error in them is not the project's.
    new EgressPolicy(wanted);
    const text = folder === undefined ? undefined : await readProjectFile(folder);
    const project = text === undefined ? undefined : parseProjectFile(text);
    if (project === undefined) return wanted;
    const request = { ...wanted, project };
    try {
      new EgressPolicy(request);
    } catch (error) {
      if (error instanceof EgressRuleError) throw usage(error.message, error);
      throw error;
    }
    return request;
  } catch (error) {
    if (error instanceof EgressRuleError) throw new LocalError("usage", error.message, { cause: error });
    throw error;
  }
}
