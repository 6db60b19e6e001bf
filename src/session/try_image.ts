/**
 * Boots an image that is not in use yet and has its agent say its version.
 *
 * @module
 */

import { AGENT_ENV, type AgentSpec } from "../../agent-images/agent_spec.ts";
import { type PreparedImage } from "../images/prepare.ts";
import { EgressPolicy } from "../network/egress_policy.ts";
import { ModelBudget } from "../network/model_budget.ts";
import { NO_UPSTREAM } from "../network/model_gateway.ts";
import { newSessionId } from "./record.ts";
import { Session } from "./session.ts";
import { SessionError } from "./session_error.ts";
import { TextTail } from "./text_tail.ts";

const BOOT_TIMEOUT_MS = 120_000;
const VERSION_LIMIT_MS = 5 * 60_000;

/** What an agent said of itself. */
export interface ImageTrial {
  readonly exitCode: number | null;
  /** end of its output, without control characters */
  readonly output: string;
}

/** Runs the agent's version command in a VM without any network. @throws {SessionError} when the VM does not boot */
export async function tryImage(
  image: PreparedImage,
  spec: AgentSpec,
  options: { readonly stateDir: string; readonly signal: AbortSignal },
): Promise<ImageTrial> {
  const argv = spec.release?.versionCommand;
  if (argv === undefined) throw new SessionError("config", `${spec.title} has no version to try`);
  await using session = await Session.create({
    ...options,
    id: newSessionId(),
    image,
    hostname: spec.name,
    memoryMib: spec.memoryMib,
    cpus: 1,
    bootTimeoutMs: BOOT_TIMEOUT_MS,
    upstream: NO_UPSTREAM,
    budget: new ModelBudget(),
    onGateway: () => {},
    policy: new EgressPolicy({ mode: "none", allow: [], profiles: [] }),
    networkLog: { add: () => {} },
    onPhase: () => {},
  });
  const output = new TextTail(4096);
  const keep = (chunk: Uint8Array): void => output.push(chunk);
  const { exitCode } = await session.within(VERSION_LIMIT_MS, async () => {
    const command = { argv, env: AGENT_ENV, cwd: "/", user: "agent" };
    const process = await session.guest.exec({ ...command, onStdout: keep, onStderr: keep });
    return await process.exit;
  });
  return { exitCode, output: output.lastLines(5) };
}

/** Checks what the agent said. @throws {SessionError} when it is not this version that runs */
export function checkTrial(trial: ImageTrial, version: string): void {
  const said = trial.output === "" ? "nothing" : `"${trial.output}"`;
  if (trial.exitCode !== 0) {
    throw new SessionError(
      "boot_failed",
      `Version ${version} does not run: exit code ${trial.exitCode}, it said ${said}`,
    );
  }
  if (!trial.output.split(/[^0-9A-Za-z.-]+/).some((word) => word.replace(/^v/, "") === version)) {
    throw new SessionError("boot_failed", `Version ${version} does not run: the agent said ${said}`);
  }
}
