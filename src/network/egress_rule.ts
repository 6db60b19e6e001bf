/**
 * One rule of an allow-list: a host name, or all names below one, and the port that it holds for.
 *
 * @module
 */

/** RFC 1035 §2.3.4, without the root's dot. */
const MAX_NAME_LENGTH = 253;
/** Underscores are not for host names, but such names exist and resolve. */
const LABEL_PATTERN = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const NUMBER_PATTERN = /^(?:[0-9]+|0x[0-9a-f]*)$/;

/** A rule. */
export interface EgressRule {
  /** lower-case ASCII name, without a dot at its end */
  readonly name: string;
  /** true: all names below `name`, at any depth, but not `name` itself */
  readonly isWildcard: boolean;
  /** the one port that it holds for (undefined: none was named) */
  readonly port: number | undefined;
}

/** A rule that cannot be understood. */
export class EgressRuleError extends RangeError {
  override readonly name = "EgressRuleError";
}

/** The name as DNS has it: lower-case ASCII without a final dot; undefined for what is not a name of two labels. */
export function normalizeName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  const labels = name.split(".");
  if (name.length > MAX_NAME_LENGTH || labels.length < 2) return undefined;
  // A last label that is a number makes an IPv4 address of it (WHATWG URL, "ends in a number").
  if (NUMBER_PATTERN.test(labels.at(-1) ?? "")) return undefined;
  return labels.every((label) => LABEL_PATTERN.test(label)) ? name : undefined;
}

/** Whether the text is an IP address in one of the forms that programs take. */
export function isIpLiteral(text: string): boolean {
  return text.includes(":") || text.startsWith("[") ||
    NUMBER_PATTERN.test(text.toLowerCase().replace(/\.$/, "").split(".").at(-1) ?? "");
}

/** International names in their ASCII form (UTS #46, as URLs have it). */
function toAscii(text: string): string | undefined {
  // deno-lint-ignore no-control-regex
  if (/^[\x00-\x7f]*$/.test(text)) return text;
  return /[\s/?#@:\\%]/.test(text) ? undefined : URL.parse(`http://${text}/`)?.hostname;
}

function parsePort(text: string, rule: string): number {
  const port = Number(text);
  if (/^[0-9]{1,5}$/.test(text) && port >= 1 && port <= 65535) return port;
  throw new EgressRuleError(`Cannot use rule "${rule}": port must be a number from 1 to 65535`);
}

/**
 * Reads `name`, `*.name`, each with or without `:port`.
 *
 * @throws {EgressRuleError} that says what is wrong with it
 */
export function parseEgressRule(text: string): EgressRule {
  const rule = text.slice(0, 300);
  const fail = (why: string): never => {
    throw new EgressRuleError(`Cannot use rule "${rule}": ${why}`);
  };
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) fail("give a host name, without a scheme");
  if (/[/?#@\s]/.test(text)) fail("give a host name, without a path, user or spaces");
  const [, host = "", portText] = /^(.*?)(?::([^:]*))?$/s.exec(text) ?? [];
  if (isIpLiteral(host) || host.includes(":")) {
    fail("addresses cannot be allowed, only names");
  }
  const isWildcard = host.startsWith("*.");
  const bare = isWildcard ? host.slice(2) : host;
  if (bare.includes("*") || bare === "") fail('"*" may only be the whole first label, as in *.example.com');
  const name = normalizeName(toAscii(bare) ?? "");
  if (name === undefined) return fail("not a host name of at least two labels, as in example.com");
  return { name, isWildcard, port: portText === undefined ? undefined : parsePort(portText, rule) };
}

/** Whether a rule holds for a normalized name. */
export function matchesName(rule: EgressRule, name: string): boolean {
  return rule.isWildcard ? name.endsWith(`.${rule.name}`) : name === rule.name;
}
