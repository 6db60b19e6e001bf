/**
 * Turns a task's events into lines for people.
 *
 * @module
 */

import { describeDecision, type RecordedEvent, type ServiceEvent, type TaskPhase } from "../api/client.ts";
import { printable } from "./printable.ts";
import { formatMs } from "./quantities.ts";
import type { Style } from "./style.ts";

/** Lines of a tool's output that are shown. */
const MAX_OUTPUT_LINES = 20;
const MAX_LINE_LENGTH = 400;
const MAX_CALL_LENGTH = 2000;
/** A tool that takes this long has its time shown, in `ms`. */
const SLOW_MS = 10_000;

const PHASE_WORDS: Partial<Record<TaskPhase, string>> = {
  vm_start: "VM started",
  boot: "Guest is up",
  upload: "Workspace copied in",
};

function indent(text: string, prefix: string): string[] {
  const lines = printable(text).replace(/\n+$/, "").split("\n");
  const shown = lines.slice(0, MAX_OUTPUT_LINES).map((line) => prefix + line.slice(0, MAX_LINE_LENGTH));
  const hidden = lines.length - shown.length;
  return hidden > 0 ? [...shown, `${prefix}… ${hidden} more lines`] : shown;
}

function renderAgentEvent(event: RecordedEvent, style: Style): string[] {
  switch (event.type) {
    case "message":
      return printable(event.text).split("\n");
    case "reasoning":
      return indent(event.text, "  ").map((line) => style.dim(line));
    case "tool_call": {
      const what = event.command ? `$ ${event.input}` : `> ${event.name} ${event.input}`.trimEnd();
      return [style.bold(printable(what).slice(0, MAX_CALL_LENGTH))];
    }
    case "tool_result": {
      const output = event.output.trim() === ""
        ? []
        : indent(event.output, "  ").map((line) => style.dim(line));
      const code = event.exitCode === null ? "" : ` with exit code ${event.exitCode}`;
      const slow = event.durationMs >= SLOW_MS ? ` after ${formatMs(event.durationMs)}` : "";
      if (!event.ok) return [...output, style.red(`  failed${code}${slow}`)];
      return slow === "" ? output : [...output, style.dim(`  done${slow}`)];
    }
    case "file_change":
      return event.paths.map((path) => `~ ${printable(path)}`);
    case "error":
      return [style.red(`${event.fatal ? "Error" : "Warning"}: ${printable(event.message)}`)];
    case "usage":
    case "done":
      return [];
  }
}

/** Lines for one event; some events have none. */
export function renderEvent(event: ServiceEvent, style: Style): string[] {
  switch (event.type) {
    case "phase": {
      const words = PHASE_WORDS[event.phase];
      return words === undefined ? [] : [style.dim(`${words} (${formatMs(event.ms)})`)];
    }
    case "agent":
      return renderAgentEvent(event.event, style);
    case "gateway": {
      const { action, method, path, status, reason } = event.decision;
      if (action === "forwarded" && status < 400) return [];
      const why = reason === undefined ? "" : `: ${printable(reason)}`;
      return [style.dim(`Model request ${method} ${printable(path)} ${action}, status ${status}${why}`)];
    }
    case "network": {
      const line = printable(describeDecision(event.decision));
      return event.decision.action === "allowed" ? [] : [style.dim(line)];
    }
    case "prepare":
    case "state":
    case "stderr":
    case "terminal":
    case "result":
      return [];
  }
}
