/**
 * Anthropic's Claude Code.
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
import { ClaudeOutput } from "./events.ts";
import { CLAUDE_LOGIN } from "./login.ts";
import { ANTHROPIC_PRICES } from "./prices.ts";

const VERSION = "2.1.330";

/** Its terminal program asks these before anything else: in a machine that is thrown away they have one answer. */
const ANSWERS = JSON.stringify({
  hasCompletedOnboarding: true,
  bypassPermissionsModeAccepted: true,
  theme: "dark",
  customApiKeyResponses: { approved: [PLACEHOLDER_KEY.slice(-20)], rejected: [] },
  projects: { "/workspace": { hasTrustDialogAccepted: true, hasCompletedProjectOnboarding: true } },
});

function envOf(task: Omit<AgentTask, "prompt">): Record<string, string> {
  return {
    ...AGENT_ENV,
    ANTHROPIC_API_KEY: PLACEHOLDER_KEY,
    ANTHROPIC_BASE_URL: task.gatewayUrl,
    // Telemetry, updates and error reports: ten seconds at the end where nothing answers
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    // Ten retries of a refused connection take three minutes
    CLAUDE_CODE_MAX_RETRIES: "3",
    ...(task.model === undefined ? {} : { ANTHROPIC_MODEL: task.model }),
    ...(task.idleTimeoutMs === undefined ? {} : { API_TIMEOUT_MS: String(task.idleTimeoutMs) }),
  };
}

function command(task: AgentTask): AgentCommand {
  const flags = ["--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"];
  return { argv: ["claude", "-p", ...flags, "--", task.prompt], env: { ...envOf(task), TERM: "dumb" } };
}

function interactive(task: Omit<AgentTask, "prompt">): AgentCommand {
  const script =
    `[ -e ~/.claude.json ] || printf %s "$1" > ~/.claude.json; exec claude --dangerously-skip-permissions`;
  return { argv: ["sh", "-c", script, "sh", ANSWERS], env: envOf(task) };
}

/** Claude Code 2.1.330: one file, for musl. */
export const spec: AgentSpec = {
  name: "claude-code",
  title: "Claude Code",
  version: VERSION,
  release: { npm: "@anthropic-ai/claude-code-linux-x64-musl", versionCommand: ["claude", "--version"] },
  npm: [{
    name: "@anthropic-ai/claude-code-linux-x64-musl",
    version: VERSION,
    integrity:
      "sha512-OnduSSPY1b59FA8jTbq20Y1XkDUV0S1OVyvYBNslEbpX79P81JF7Ih4lgYvDKiFnnSv75z4Kv6qLE5DQqogYXA==",
    files: [{ from: "claude", to: "/usr/local/bin/claude", mode: 0o755 }],
  }],
  debs: { alpine: [], debian: ["musl"] },
  textFiles: [],
  memoryMib: 1536,
  model: {
    baseUrl: "https://api.anthropic.com",
    keyVariable: "ANTHROPIC_API_KEY",
    keyHeader: { name: "x-api-key", prefix: "" },
    errorShape: "anthropic",
    paths: [
      { method: "POST", path: "/v1/messages" },
      { method: "POST", path: "/v1/messages/count_tokens" },
    ],
    login: CLAUDE_LOGIN,
    prices: ANTHROPIC_PRICES,
    aliases: ["default", "best", "opus", "sonnet", "haiku", "fable", "opusplan", "opus[1m]", "sonnet[1m]"],
  },
  command,
  interactive,
  newParser: () => new ClaudeOutput(),
};
