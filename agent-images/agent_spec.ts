/**
 * What one agent is, as data: everything the image builder and the session need to know of it. Each agent is
 * one `agent-images/<name>/agent.ts` that exports a `spec` of this shape.
 *
 * @module
 */

/** One thing an agent did, the same for all agents. */
export type AgentEvent =
  /** something the agent said */
  | { readonly type: "message"; readonly text: string }
  /** a tool call begins: `name` is the tool, `input` what it was given, readable */
  | { readonly type: "tool_call"; readonly id: string; readonly name: string; readonly input: string }
  /** a tool call ended */
  | {
    readonly type: "tool_result";
    readonly id: string;
    readonly output: string;
    readonly exitCode: number | null;
    readonly ok: boolean;
  }
  /** files that the agent says it changed */
  | { readonly type: "file_change"; readonly paths: readonly string[] }
  /** tokens used so far */
  | {
    readonly type: "usage";
    readonly inputTokens: number;
    readonly cachedTokens: number;
    readonly outputTokens: number;
  }
  /** a warning or an error; `fatal` when the agent gave up because of it */
  | { readonly type: "error"; readonly message: string; readonly fatal: boolean }
  /** the agent says that it completed its turn */
  | { readonly type: "done" };

/** What a task's command is made from. */
export interface AgentTask {
  /** what the user asks for */
  readonly prompt: string;
  /** base URL of the model gateway as the guest sees it, without a trailing slash: `http://172.30.0.1:8080` */
  readonly gatewayUrl: string;
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

/** One agent. */
export interface AgentSpec {
  /** name on the command line and in the API */
  readonly name: string;
  /** name for people */
  readonly title: string;
  /** npm packages at pinned versions, with the files taken from each */
  readonly npm: readonly AgentPackage[];
  /** file contents put into the image */
  readonly textFiles: readonly { readonly to: string; readonly mode: number; readonly content: string }[];
  /** guest RAM in `MiB` where the user says nothing */
  readonly memoryMib: number;
  /** the model's API: what the gateway speaks for this agent */
  readonly model: {
    /** provider's base URL that gateway paths are appended to */
    readonly baseUrl: string;
    /** host environment variable that holds the key */
    readonly keyVariable: string;
    /** header the key travels in, and its value's prefix */
    readonly keyHeader: { readonly name: string; readonly prefix: string };
    /** request paths the gateway lets through, each with its method */
    readonly paths: readonly { readonly method: string; readonly path: string }[];
  };
  /** the command line for one task */
  command(task: AgentTask): AgentCommand;
  /** turns one line of the agent's stdout into events (an unknown line gives none) */
  parseLine(line: string): AgentEvent[];
}
