/**
 * No agent at all: the prompt is a shell command. For a command in a VM, for sessions without an agent, and for loads.
 *
 * @module
 */
import {
  AGENT_ENV,
  type AgentCommand,
  type AgentEvent,
  type AgentSpec,
  type AgentTask,
} from "../agent_spec.ts";

function command({ prompt }: AgentTask): AgentCommand {
  return { argv: ["bash", "-lc", "--", prompt], env: { ...AGENT_ENV, TERM: "dumb" } };
}

/** A line of what the command printed; what only parts others says nothing. */
function parseLine(line: string): AgentEvent[] {
  return line.trim() === "" ? [] : [{ type: "message", text: line }];
}

/** A base system with `make`, and nothing that was published under a version of its own. */
export const spec: AgentSpec = {
  name: "shell",
  title: "Shell",
  version: "1",
  npm: [],
  debs: { alpine: ["make"], debian: ["make"] },
  textFiles: [],
  memoryMib: 512,
  command,
  interactive: () => ({ argv: ["bash", "-l"], env: AGENT_ENV }),
  newParser: () => ({
    line: parseLine,
    end: (exitCode) => exitCode === 0 ? [{ type: "done" }] : [],
  }),
};
