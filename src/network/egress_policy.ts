/**
 * What a guest may reach, as names and ports: the user's allow-list, made narrower by what the user's project
 * says. The decision about a name is made here and nowhere else.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { type EgressRule, EgressRuleError, matchesName, parseEgressRule } from "./egress_rule.ts";
import { LINK } from "./ruleset.ts";

/**
 * How a guest is connected, from the narrowest: not at all but to its model, through the proxy to allowed names, or to all
 * public addresses.
 */
export const EGRESS_MODES = ["none", "proxy", "nat"] as const;
export type EgressMode = typeof EGRESS_MODES[number];

/** Rules that go together under a name. */
export const EGRESS_PROFILES: Readonly<Record<string, readonly string[]>> = {
  "model-only": [],
  packages: [
    "registry.npmjs.org:443",
    "registry.yarnpkg.com:443",
    "pypi.org:443",
    "files.pythonhosted.org:443",
    "crates.io:443",
    "static.crates.io:443",
    "index.crates.io:443",
    "deb.debian.org",
    "security.debian.org",
    "dl-cdn.alpinelinux.org",
  ],
  git: [
    "github.com:443",
    "codeload.github.com:443",
    "objects.githubusercontent.com:443",
    "raw.githubusercontent.com:443",
    "gitlab.com:443",
    "bitbucket.org:443",
    "codeberg.org:443",
  ],
};

/** Most rules of one list, and most ports of all rules: each port is a process in the session's namespace. */
const MAX_RULES = 1000;
const MAX_PORTS = 16;
/** Ports of a rule that names none: plain HTTP and TLS. */
const DEFAULT_PORTS: readonly number[] = [80, 443];
/** Ports that are the session's own. */
const RESERVED_PORTS: readonly number[] = [LINK.dnsPort, LINK.proxyPort, LINK.gatewayPort];

/** What a project's own file says: it takes away and never gives. */
export interface ProjectEgress {
  /** whose words these are, for messages: the file's name */
  readonly source: string;
  readonly mode?: EgressMode | undefined;
  /** of what the user allows, only this (default: all of it) */
  readonly allow?: readonly string[] | undefined;
  /** of what the user allows, not this */
  readonly deny?: readonly string[] | undefined;
}

/** A policy as it is asked for: plain data. */
export interface EgressRequest {
  readonly mode: EgressMode;
  /** rules, see {@linkcode parseEgressRule} */
  readonly allow: readonly string[];
  /** names in {@linkcode EGRESS_PROFILES} */
  readonly profiles: readonly string[];
  readonly project?: ProjectEgress | undefined;
}

/** Only the model: what a task gets that asks for nothing. */
export const DEFAULT_EGRESS: EgressRequest = { mode: "proxy", allow: [], profiles: [] };

/** The rules of a profile. @throws {EgressRuleError} when there is none of this name */
export function profileRules(name: string): readonly string[] {
  const rules = Object.hasOwn(EGRESS_PROFILES, name) ? EGRESS_PROFILES[name] : undefined;
  if (rules !== undefined) return rules;
  const known = Object.keys(EGRESS_PROFILES).join(", ");
  throw new EgressRuleError(`There is no network profile "${name.slice(0, 40)}"; known: ${known}`);
}

function parseRules(texts: readonly string[]): EgressRule[] {
  if (texts.length > MAX_RULES) throw new EgressRuleError(`Cannot use more than ${MAX_RULES} network rules`);
  return texts.map(parseEgressRule);
}

function portsOf(rule: EgressRule): readonly number[] {
  return rule.port === undefined ? DEFAULT_PORTS : [rule.port];
}

function fits(rule: EgressRule, name: string, port: number | undefined): boolean {
  return matchesName(rule, name) && (port === undefined || portsOf(rule).includes(port));
}

/** Denials without a port hold for every port. */
function isDenied(rule: EgressRule, name: string, port: number | undefined): boolean {
  return matchesName(rule, name) && (rule.port === undefined || rule.port === port);
}

function narrower(one: EgressMode, other: EgressMode): EgressMode {
  return EGRESS_MODES[Math.min(EGRESS_MODES.indexOf(one), EGRESS_MODES.indexOf(other))] ?? "none";
}

/** The rules in one order and without repetitions: equal lists, however written, come out equal. */
function canonical(rules: readonly EgressRule[]): string[] {
  const lines = rules.map(({ isWildcard, name, port }) => `${isWildcard ? "*." : ""}${name}:${port ?? "*"}`);
  return [...new Set(lines)].sort();
}

/** A checked policy. */
export class EgressPolicy {
  readonly mode: EgressMode;
  /** SHA-256 of the policy in its canonical form, in hex */
  readonly digest: string;
  /** ports of all rules, in order */
  readonly ports: readonly number[];
  readonly #allow: readonly EgressRule[];
  readonly #only: readonly EgressRule[] | undefined;
  readonly #deny: readonly EgressRule[];
  readonly #projectName: string;

  /** @throws {EgressRuleError} for a rule or a profile that cannot be understood */
  constructor(request: EgressRequest) {
    const { project } = request;
    this.mode = narrower(request.mode, project?.mode ?? request.mode);
    if (this.mode === "nat" && (project?.allow ?? project?.deny) !== undefined) {
      throw new EgressRuleError(
        `Cannot use mode nat, which knows no names, with the rules of ${project?.source}: use --network proxy`,
      );
    }
    this.#allow = parseRules([...request.allow, ...request.profiles.flatMap(profileRules)]);
    this.#only = project?.allow === undefined ? undefined : parseRules(project.allow);
    this.#deny = parseRules(project?.deny ?? []);
    this.#projectName = project?.source ?? "the project's file";
    this.ports = [...new Set(this.#allow.flatMap(portsOf))].sort((a, b) => a - b);
    const reserved = this.ports.find((port) => RESERVED_PORTS.includes(port));
    if (reserved !== undefined) {
      throw new EgressRuleError(`Cannot allow port ${reserved}: it is the sandbox's own`);
    }
    if (this.ports.length > MAX_PORTS) {
      throw new EgressRuleError(`Cannot allow more than ${MAX_PORTS} different ports`);
    }
    const form = {
      mode: this.mode,
      allow: canonical(this.#allow),
      only: this.#only === undefined ? null : canonical(this.#only),
      deny: canonical(this.#deny),
    };
    this.digest = createHash("sha256").update(JSON.stringify(form)).digest("hex");
  }

  /** whether names can be reached through the proxy */
  get isOpen(): boolean {
    return this.mode === "proxy" && this.#allow.length > 0;
  }

  /**
   * Why a normalized name may not be reached at a port, as the end of a sentence; undefined: it may. Without a
   * port: whether it may be reached at any.
   */
  refusal(name: string, port?: number): string | undefined {
    if (!this.#allow.some((rule) => fits(rule, name, port))) {
      const isDefault = port === undefined || DEFAULT_PORTS.includes(port);
      return `not in allow-list; allow with --allow ${name}${isDefault ? "" : `:${port}`}`;
    }
    if (this.#deny.some((rule) => isDenied(rule, name, port))) return `denied by ${this.#projectName}`;
    if (this.#only !== undefined && !this.#only.some((rule) => fits(rule, name, port))) {
      return `not in the allow-list of ${this.#projectName}`;
    }
    return undefined;
  }
}
