import { type AgentCase, checkDemo } from "../support/agent_demo.ts";

/** OpenClaw takes its time: see openclaw_test.ts. */
const AGENTS: readonly AgentCase[] = [
  { name: "claude-code", tool: "Bash" },
  { name: "opencode", tool: "bash" },
  { name: "codex", tool: "shell" },
];

for (const agent of AGENTS) {
  Deno.test(`${agent.name} works on a repository, and its patch holds what it did there`, () =>
    checkDemo(agent));
}
