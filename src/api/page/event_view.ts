/**
 * What happens in a task, as lines.
 *
 * @module
 */

import { h } from "./dom.ts";
import type { PageEvent } from "./service.ts";

const MAX_TEXT = 20_000;

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

function block(kind: string, title: string, text: string): HTMLElement {
  const body = text === "" ? undefined : h("pre", {}, text.slice(0, MAX_TEXT));
  return h("li", { class: kind }, title === "" ? undefined : h("span", { class: "title" }, title), body);
}

/** The line of an event (undefined: it has none). */
export function eventLine(event: PageEvent): HTMLElement | undefined {
  switch (event.type) {
    case "state":
      return block("state", event.state.replace("_", " "), event.cause ?? "");
    case "phase":
      return block("phase", `${event.phase.replace("_", " ")} ${seconds(event.ms)}`, "");
    case "stderr":
      return block("stderr", "", event.text);
    case "network": {
      const { action, host, port, reason } = event.decision;
      return block(action, `${action}: ${host}${port === null ? "" : `:${port}`}`, reason ?? "");
    }
    case "gateway":
      return event.decision.action === "forwarded" && event.decision.status < 400
        ? undefined
        : block("denied", `model request ${event.decision.action}`, event.decision.reason ?? "");
    case "agent":
      return agentLine(event.event);
    default:
      return undefined;
  }
}

function agentLine(event: Extract<PageEvent, { type: "agent" }>["event"]): HTMLElement | undefined {
  switch (event.type) {
    case "message":
      return block("message", "", event.text);
    case "reasoning":
      return block("reasoning", "", event.text);
    case "tool_call":
      return block("call", event.command ? `$ ${event.input}` : `${event.name} ${event.input}`, "");
    case "tool_result":
      return block(
        event.ok ? "output" : "output denied",
        event.ok ? "" : `failed ${event.exitCode ?? ""}`,
        event.output,
      );
    case "file_change":
      return block("change", `changed ${event.paths.join(", ")}`, "");
    case "error":
      return block("denied", event.fatal ? "error" : "warning", event.message);
    default:
      return undefined;
  }
}
