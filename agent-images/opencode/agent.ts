/**
 * OpenCode.
 *
 * @module
 */
import {
  AGENT_ENV,
  type AgentCommand,
  type AgentSpec,
  type AgentTask,
  PLACEHOLDER_KEY,
} from "../agent_spec.ts";
import { OPENAI_DEFAULT_MODEL, OPENAI_RESPONSES } from "../openai.ts";
import { OpenCodeOutput } from "./events.ts";

const VERSION = "1.18.32";

function config(
  { gatewayUrl, model = OPENAI_DEFAULT_MODEL, idleTimeoutMs }: Omit<AgentTask, "prompt">,
): string {
  const timeout = idleTimeoutMs === undefined ? {} : { timeout: idleTimeoutMs };
  return JSON.stringify({
    autoupdate: false,
    share: "disabled",
    // Its own copies of the work tree: the whole machine is one
    snapshot: false,
    lsp: false,
    formatter: false,
    permission: "allow",
    model: `openai/${model}`,
    small_model: `openai/${model}`,
    enabled_providers: ["openai"],
    // Would ask the model for a title of the session
    agent: { title: { disable: true } },
    provider: {
      openai: {
        options: { baseURL: gatewayUrl, apiKey: PLACEHOLDER_KEY, ...timeout },
        models: { [model]: { name: model, limit: { context: 200_000, output: 32_000 } } },
      },
    },
  });
}

function envOf(task: Omit<AgentTask, "prompt">): Record<string, string> {
  return {
    ...AGENT_ENV,
    OPENCODE_CONFIG_CONTENT: config(task),
    OPENCODE_DISABLE_AUTOUPDATE: "1",
    OPENCODE_DISABLE_DEFAULT_PLUGINS: "1",
    OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
    OPENCODE_DISABLE_MODELS_FETCH: "1",
    OPENCODE_DISABLE_SHARE: "1",
  };
}

function command(task: AgentTask): AgentCommand {
  const argv = ["opencode", "run", "--format", "json", "--thinking", "--", task.prompt];
  return { argv, env: { ...envOf(task), TERM: "dumb" } };
}

function interactive(task: Omit<AgentTask, "prompt">): AgentCommand {
  return { argv: ["opencode"], env: envOf(task) };
}

/** OpenCode 1.18.32: one file, for glibc and any x86-64 CPU of the last 15 years. */
export const spec: AgentSpec = {
  name: "opencode",
  title: "OpenCode",
  version: VERSION,
  release: { npm: "opencode-linux-x64-baseline", versionCommand: ["opencode", "--version"] },
  npm: [{
    name: "opencode-linux-x64-baseline",
    version: VERSION,
    integrity:
      "sha512-XXO4htNdJEoj935NGMYNGjD1M8ZiJPo2u2cQzIyeBjinoClI7iXOHBPw+Twm/ZuzFHKtmI2594bt0GWIwTetkw==",
    files: [{ from: "bin/opencode", to: "/usr/local/bin/opencode", mode: 0o755 }],
  }],
  // The build for musl needs musl's own libstdc++, which Alpine's root archive does not have
  debs: { alpine: ["libc6"], debian: [] },
  textFiles: [],
  memoryMib: 1536,
  model: OPENAI_RESPONSES,
  command,
  interactive,
  newParser: () => new OpenCodeOutput(),
};
