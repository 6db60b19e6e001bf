/**
 * OpenAI's Codex CLI.
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
import { OPENAI_RESPONSES } from "../openai.ts";
import { parseLine } from "./events.ts";
import { CODEX_LOGIN } from "./login.ts";

const VENDOR = "vendor/x86_64-unknown-linux-musl";

/** Settings for every task; the gateway's address comes with the command. */
const CONFIG = `# Written by Paddock: this machine is thrown away after the task
model_provider = "paddock"
check_for_update_on_startup = false
approval_policy = "never"
sandbox_mode = "danger-full-access"

[model_providers.paddock]
name = "Paddock model gateway"
base_url = "http://172.30.0.1:8080"
wire_api = "responses"
env_key = "PADDOCK_MODEL_KEY"
request_max_retries = 2
stream_max_retries = 2
stream_idle_timeout_ms = 120000

[analytics]
enabled = false

[features]
# asks github.com and chatgpt.com
plugins = false
# an unreachable model would otherwise be retried without end
unbounded_connection_retries = false
shell_snapshot = false
`;

function settingsOf(task: Omit<AgentTask, "prompt">): string[] {
  const settings = [`model_providers.paddock.base_url=${JSON.stringify(task.gatewayUrl)}`];
  if (task.model !== undefined) settings.push(`model=${JSON.stringify(task.model)}`);
  if (task.idleTimeoutMs !== undefined) {
    settings.push(`model_providers.paddock.stream_idle_timeout_ms=${task.idleTimeoutMs}`);
  }
  return settings.flatMap((setting) => ["-c", setting]);
}

const BYPASS = "--dangerously-bypass-approvals-and-sandbox";
const ENV = { ...AGENT_ENV, PADDOCK_MODEL_KEY: PLACEHOLDER_KEY };

function command(task: AgentTask): AgentCommand {
  const flags = ["--json", BYPASS, "--skip-git-repo-check", "-C", "/workspace"];
  return {
    argv: ["codex", "exec", ...flags, ...settingsOf(task), "--", task.prompt],
    env: { ...ENV, TERM: "dumb" },
  };
}

function interactive(task: Omit<AgentTask, "prompt">): AgentCommand {
  return { argv: ["codex", BYPASS, "-C", "/workspace", ...settingsOf(task)], env: ENV };
}

/** Codex 0.169.0, statically linked. */
export const spec: AgentSpec = {
  name: "codex",
  title: "Codex",
  version: "0.169.0",
  release: { npm: "@openai/codex", versionCommand: ["codex", "--version"] },
  npm: [{
    name: "@openai/codex",
    version: "0.169.0-linux-x64",
    integrity:
      "sha512-o05NyAOCDygSPRo1yinzxvkRSdmsZyBD9E7mbpmjRanSfM8lypqWtQgEo4XfNkwhuCR2aFu8mlGOsQGFXVbVww==",
    files: [
      { from: `${VENDOR}/bin/codex`, to: "/usr/local/bin/codex", mode: 0o755 },
      // The default models drive their tools with JavaScript: without this beside codex no tool call works
      { from: `${VENDOR}/bin/codex-code-mode-host`, to: "/usr/local/bin/codex-code-mode-host", mode: 0o755 },
      { from: `${VENDOR}/codex-path/rg`, to: "/usr/local/bin/rg", mode: 0o755 },
    ],
  }],
  debs: { alpine: [], debian: [] },
  textFiles: [{ to: "/etc/codex/config.toml", mode: 0o644, content: CONFIG }],
  memoryMib: 1024,
  model: { ...OPENAI_RESPONSES, login: CODEX_LOGIN },
  command,
  interactive,
  newParser: () => ({ line: parseLine, end: () => [] }),
};
