/**
 * A task that somebody drives on a terminal: waits until the agent was given one and has ended.
 *
 * @module
 */

import type { AgentRunFacts } from "./agent_run.ts";
import type { AgentTerminal } from "./agent_terminal.ts";
import { type RunLimits, waitForEnd } from "./run_end.ts";
import { NOTHING_RECORDED } from "./task.ts";

/** Waits for the end of the agent on its terminal, whatever that is; only a failure to start it is thrown. */
export async function runOnTerminal(terminal: AgentTerminal, limits: RunLimits): Promise<AgentRunFacts> {
  const { started } = terminal;
  const ran = await waitForEnd({
    exit: started.then(({ exit }) => exit),
    signal: async (number) => await (await started).signal(number),
    close: () => void started.then((process) => process.close()).catch(() => {/* it never ran */}),
  }, limits);
  return {
    ...ran,
    // Its user saw what it said and decided when it was enough
    sawDone: true,
    fatalMessage: null,
    finalMessage: null,
    usage: null,
    stderrTail: "",
    raw: NOTHING_RECORDED,
  };
}
