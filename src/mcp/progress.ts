/**
 * Progress of a tool call, told to clients that asked for it.
 *
 * @module
 */

import type { CallContext } from "./tool.ts";

/** Clients give up on calls that are silent for a minute. */
const STILL_THERE_MS = 15_000;
const MAX_MESSAGE_LENGTH = 300;

/** Tells how a call goes on, at least every quarter of a minute, until it is disposed of. */
export class Progress implements Disposable {
  readonly #context: CallContext;
  readonly #timer: ReturnType<typeof setInterval>;
  #count = 0;
  #last = "waiting";

  constructor(context: CallContext) {
    this.#context = context;
    this.#timer = setInterval(() => this.tell(this.#last), STILL_THERE_MS);
  }

  /** Tells a step. */
  tell(message: string): void {
    const progressToken = this.#context._meta?.progressToken;
    if (progressToken === undefined) return;
    this.#last = message;
    const params = { progressToken, progress: ++this.#count, message: message.slice(0, MAX_MESSAGE_LENGTH) };
    // Whoever has gone away needs no progress
    void this.#context.sendNotification({ method: "notifications/progress", params }).catch(() => {});
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
