/**
 * Reads an OpenAI Responses request the way a model would: which shell tool is offered, and how many of its
 * results are already in the conversation.
 *
 * @module
 */

/** How a shell command is called in this request. */
export type ShellTool =
  /** function `exec_command` among the top-level tools */
  | { readonly kind: "function"; readonly name: string }
  /** "code mode": custom tool `exec` of a namespace, whose input is JavaScript */
  | { readonly kind: "code"; readonly name: string; readonly namespace: string };

/** What the script needs to know of a request. */
export interface Conversation {
  /** model asked for */
  readonly model: string;
  /** shell tool on offer (undefined: none) */
  readonly shell: ShellTool | undefined;
  /** tool results since the last message of the user */
  readonly toolResultCount: number;
  /** text of the last message of the user */
  readonly lastUserText: string;
}

type Json = Record<string, unknown>;

function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function records(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function findShell(body: Json, input: Json[]): ShellTool | undefined {
  for (const tool of records(body.tools)) {
    if (tool.type === "function" && tool.name === "exec_command") {
      return { kind: "function", name: "exec_command" };
    }
  }
  for (const item of input.filter((entry) => entry.type === "additional_tools")) {
    for (const namespace of records(item.tools)) {
      const offered = records(namespace.tools).some((tool) => tool.type === "custom" && tool.name === "exec");
      if (offered) return { kind: "code", name: "exec", namespace: String(namespace.name) };
    }
  }
  return undefined;
}

function messageText(item: Json): string {
  if (typeof item.content === "string") return item.content;
  return records(item.content).map((part) => typeof part.text === "string" ? part.text : "").join("");
}

/** Parses the decoded JSON body of `POST …/responses`. */
export function parseConversation(body: unknown): Conversation {
  if (!isRecord(body)) throw new TypeError("Cannot read request: body is not a JSON object");
  const input = records(body.input);
  const isUser = (item: Json): boolean => item.type === "message" && item.role === "user";
  const lastUser = input.findLastIndex(isUser);
  const lastItem = input[lastUser];
  const results = input.slice(lastUser + 1).filter((item) =>
    item.type === "function_call_output" || item.type === "custom_tool_call_output"
  );
  return {
    model: typeof body.model === "string" ? body.model : "unknown",
    shell: findShell(body, input),
    toolResultCount: results.length,
    lastUserText: lastItem === undefined ? "" : messageText(lastItem),
  };
}
