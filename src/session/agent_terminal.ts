/**
 * An agent's own user interface in a guest: run once, on the terminal of whoever comes with one.
 *
 * @module
 */

import type { AgentCommand } from "../../agent-images/agent_spec.ts";
import type { GuestCommand, GuestProcess } from "./guest_client.ts";
import { SessionError } from "./session_error.ts";

/** What a terminal brings. */
export type TerminalIo = Required<Pick<GuestCommand, "terminal" | "onStdout" | "onStderr">>;

/** The agent, waiting for its terminal. */
export class AgentTerminal {
  readonly #command: AgentCommand;
  readonly #exec: (command: GuestCommand) => Promise<GuestProcess>;
  readonly #started = Promise.withResolvers<GuestProcess>();
  #isTaken = false;

  /** `exec` starts a command in the guest. */
  constructor(command: AgentCommand, exec: (command: GuestCommand) => Promise<GuestProcess>) {
    this.#command = command;
    this.#exec = exec;
    this.#started.promise.catch(() => {/* whoever starts it is told, too */});
  }

  /** settles when somebody brought a terminal; rejects when the agent could not be started */
  get started(): Promise<GuestProcess> {
    return this.#started.promise;
  }

  /** Starts the agent; only the first one with a terminal can. */
  async start(io: TerminalIo): Promise<GuestProcess> {
    if (this.#isTaken) throw new SessionError("conflict", "The agent has a terminal already");
    this.#isTaken = true;
    const started = this.#exec({
      ...io,
      argv: this.#command.argv,
      env: { TERM: "xterm-256color", ...this.#command.env },
      cwd: "/workspace",
      user: "agent",
    });
    this.#started.resolve(started);
    return await started;
  }
}
