/**
 * What one agent is, as data: everything the image builder and the session need to know of it. Each agent is
 * one `agent-images/<name>/agent.ts` that exports a `spec` of this shape.
 *
 * @module
 */
import type { AgentEvent } from "./agent_event.ts";

export type { AgentEvent, RecordedEvent } from "./agent_event.ts";

import type { AgentLogin } from "./agent_login.ts";
import type { PriceTable } from "./model_price.ts";

/** Tokens that a model used. */
export interface TokenUsage {
  /** all that was read, from a cache or not */
  readonly inputTokens: number;
  /** of these, from a cache */
  readonly cachedTokens: number;
  readonly outputTokens: number;
}

/** Variables that every command of every agent has. */
export const AGENT_ENV: Readonly<Record<string, string>> = {
  HOME: "/home/agent",
  USER: "agent",
  LOGNAME: "agent",
  SHELL: "/bin/bash",
  PATH: "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
  LANG: "C.UTF-8",
};

/** What an agent is told in place of a key: the gateway adds the real one, which never enters the guest. */
export const PLACEHOLDER_KEY = "the-gateway-adds-the-key";

/** What a task's command is made from. */
export interface AgentTask {
  /** what the user asks for */
  readonly prompt: string;
  /** base URL of the model gateway as the guest sees it, without a trailing slash: `http://172.30.0.1:8080` */
  readonly gatewayUrl: string;
  /** longest run in `ms`; whoever runs it sees to it */
  readonly timeoutMs: number;
  /** model name (default: the agent's own) */
  readonly model?: string;
  /** how long the model's answer may stay silent before the agent gives up on it, in `ms` (default: the agent's own) */
  readonly idleTimeoutMs?: number;
}

/** A command to run in the guest. */
export interface AgentCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A file unpacked from an npm package into the image. */
export interface AgentFile {
  /** path inside the package's tarball, below `package/` */
  readonly from: string;
  /** absolute path in the image */
  readonly to: string;
  /** permission bits */
  readonly mode: number;
}

/** An npm package that an agent is installed from. */
export interface AgentPackage {
  readonly name: string;
  readonly version: string;
  /** the registry's `dist.integrity` of this version: `sha512-…` */
  readonly integrity: string;
  readonly files: readonly AgentFile[];
}

/** npm packages with all they depend on, installed as their lock file says; no install script runs. */
export interface AgentPackageTree {
  /** folder with `package.json` and `package-lock.json`; the lock has the hash of every package */
  readonly folder: string;
  /** absolute path in the image that gets the `node_modules` */
  readonly to: string;
  /** paths below it that are deleted */
  readonly remove: readonly string[];
}

/** Turns an agent's stdout into events; one for each run, as some agents need more than one line for an event. */
export interface AgentOutputParser {
  /** takes one line (an unknown one gives no event) */
  line(line: string): AgentEvent[];
  /** the output has ended; `exitCode` is the agent's (null: it did not exit by itself) */
  end(exitCode: number | null): AgentEvent[];
}

/** Reads an agent's requests to its model, for agents that say nothing themselves while they run. */
export interface AgentTrafficParser {
  /** takes the body of one request; a retry of the last one gives nothing new */
  request(body: unknown): AgentEvent[];
}

/** The API of an agent's model: what the gateway speaks for this agent. */
export interface AgentModel {
  /** provider's base URL that gateway paths are appended to */
  readonly baseUrl: string;
  /** host environment variable that holds the key */
  readonly keyVariable: string;
  /** header the key travels in, and its value's prefix */
  readonly keyHeader: { readonly name: string; readonly prefix: string };
  /** whose shape errors have that the agent understands */
  readonly errorShape: "openai" | "anthropic";
  /** request paths the gateway lets through, each with its method */
  readonly paths: readonly { readonly method: string; readonly path: string }[];
  /** what its models cost (default: not known) */
  readonly prices?: PriceTable;
  /** names that the agent itself turns into those of models */
  readonly aliases?: readonly string[];
  /** login of the agent's own client, which can take a key's place (default: there is none) */
  readonly login?: AgentLogin;
}

/** One agent. */
export interface AgentSpec {
  /** name on the command line and in the API */
  readonly name: string;
  /** name for people */
  readonly title: string;
  /** version of the agent itself */
  readonly version: string;
  /** where newer versions are published, and what has the agent say its version (default: nobody publishes any) */
  readonly release?: { readonly npm: string; readonly versionCommand: readonly string[] };
  /** npm packages at pinned versions, with the files taken from each */
  readonly npm: readonly AgentPackage[];
  /** an agent of many packages */
  readonly npmTree?: AgentPackageTree;
  /**
   * Debian packages that its programs need, with what these depend on. On an Alpine base they lie beside it, with the C
   * library that they are made for
   */
  readonly debs: { readonly alpine: readonly string[]; readonly debian: readonly string[] };
  /** file contents put into the image */
  readonly textFiles: readonly { readonly to: string; readonly mode: number; readonly content: string }[];
  /** guest RAM in `MiB` where the user says nothing */
  readonly memoryMib: number;
  /** the API of its model (default: it uses none, and the gateway lets nothing through) */
  readonly model?: AgentModel;
  /** the command line for one task */
  command(task: AgentTask): AgentCommand;
  /** the command line of a session on a terminal */
  interactive(task: Omit<AgentTask, "prompt">): AgentCommand;
  /** a parser for the output of one run of {@linkcode command} */
  newParser(): AgentOutputParser;
  /** a parser for the requests of one run (default: its output says enough) */
  newTrafficParser?(): AgentTrafficParser;
}
