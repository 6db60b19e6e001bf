/**
 * Shows the progress of long preparations on stderr: a bar on a terminal, plain lines elsewhere.
 *
 * @module
 */

import type { ProgressEvent } from "../local/preparation.ts";
import { printable } from "./printable.ts";
import { formatBytes, formatMs } from "./quantities.ts";

/** Time between two drawings of a bar, and between two plain lines of one step, in `ms`. */
const REDRAW_MS = 100;
const PLAIN_LINE_MS = 15_000;
const BAR_WIDTH = 24;
/** Steps quicker than this are not worth a line when they end. */
const QUIET_STEP_MS = 200;

function amount(event: Extract<ProgressEvent, { type: "progress" }>): string {
  const format = event.unit === "bytes" ? formatBytes : (value: number): string => `${value}`;
  const unit = event.unit === "bytes" ? "" : ` ${event.unit}`;
  return event.total === undefined
    ? `${format(event.done)}${unit}`
    : `${format(event.done)} of ${format(event.total)}${unit}`;
}

/** A bar of a fixed width, or nothing when the total is unknown. */
export function bar(done: number, total: number | undefined): string {
  if (total === undefined || total <= 0) return "";
  const filled = Math.min(BAR_WIDTH, Math.floor(BAR_WIDTH * done / total));
  return `[${"#".repeat(filled)}${".".repeat(BAR_WIDTH - filled)}] `;
}

/** Draws progress events. */
export class ProgressDisplay {
  readonly #isTerminal: boolean;
  readonly #write: (text: string) => void;
  readonly #messages = new Map<string, string>();
  #lastDrawnAt = 0;
  #hasBar = false;

  /** `write` takes text for stderr */
  constructor(options: { readonly isTerminal: boolean; readonly write: (text: string) => void }) {
    this.#isTerminal = options.isTerminal;
    this.#write = options.write;
  }

  /** Shows one event. */
  show(event: ProgressEvent): void {
    switch (event.type) {
      case "step": {
        const message = printable(event.message);
        this.#messages.set(event.step, message);
        const position = event.count > 1 ? `[${event.index}/${event.count}] ` : "";
        return this.line(`${position}${message}`);
      }
      case "progress":
        return this.#showProgress(event);
      case "done": {
        const message = this.#messages.get(event.step) ?? event.step;
        return event.ms < QUIET_STEP_MS
          ? this.clear()
          : this.line(`${message}: done in ${formatMs(event.ms)}`);
      }
      case "notice":
        return this.line(printable(event.message));
    }
  }

  /** Prints a line, above any bar. */
  line(text: string): void {
    this.clear();
    this.#write(`${text}\n`);
  }

  /** Removes the bar. */
  clear(): void {
    if (this.#hasBar) this.#write("\r\x1b[K");
    this.#hasBar = false;
  }

  #showProgress(event: Extract<ProgressEvent, { type: "progress" }>): void {
    const now = performance.now();
    if (now - this.#lastDrawnAt < (this.#isTerminal ? REDRAW_MS : PLAIN_LINE_MS)) return;
    this.#lastDrawnAt = now;
    if (!this.#isTerminal) {
      return this.line(`  ${this.#messages.get(event.step) ?? event.step}: ${amount(event)}`);
    }
    this.#hasBar = true;
    this.#write(`\r\x1b[K  ${bar(event.done, event.total)}${amount(event)}`);
  }
}

/** A display on stderr. */
export function progressOnStderr(): ProgressDisplay {
  const encoder = new TextEncoder();
  return new ProgressDisplay({
    isTerminal: Deno.stderr.isTerminal(),
    write: (text) => void Deno.stderr.writeSync(encoder.encode(text)),
  });
}
