/**
 * OpenAI's Codex CLI.
 *
 * @module
 */
import type { AgentCommand, AgentSpec, AgentTask } from "../agent_spec.ts";
import { parseLine } from "./events.ts";

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

function command(task: AgentTask): AgentCommand {
  const settings = [`model_providers.paddock.base_url=${JSON.stringify(task.gatewayUrl)}`];
  if (task.model !== undefined) settings.push(`model=${JSON.stringify(task.model)}`);
  if (task.idleTimeoutMs !== undefined) {
    settings.push(`model_providers.paddock.stream_idle_timeout_ms=${task.idleTimeoutMs}`);
  }
  return {
    argv: [
      ...["codex", "exec", "--json", "--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check"],
      ...["-C", "/workspace"],
      ...settings.flatMap((setting) => ["-c", setting]),
      ...["--", task.prompt],
    ],
    env: {
      HOME: "/home/agent",
      USER: "agent",
      LOGNAME: "agent",
      SHELL: "/bin/bash",
      PATH: "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
      LANG: "C.UTF-8",
      TERM: "dumb",
      // Codex wants one; the real key never enters the guest
      PADDOCK_MODEL_KEY: "the-gateway-adds-the-key",
    },
  };
}

/** Codex 0.169.0, statically linked. */
export const spec: AgentSpec = {
  name: "codex",
  title: "Codex",
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
  textFiles: [{ to: "/etc/codex/config.toml", mode: 0o644, content: CONFIG }],
  memoryMib: 1024,
  model: {
    baseUrl: "https://api.openai.com/v1",
    keyVariable: "OPENAI_API_KEY",
    keyHeader: { name: "authorization", prefix: "Bearer " },
    paths: [{ method: "POST", path: "/responses" }],
  },
  command,
  parseLine,
};
