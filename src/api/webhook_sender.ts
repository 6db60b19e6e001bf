/**
 * Tells whoever wants to know that a task is over: by a POST that is signed as Standard Webhooks 1.0 says
 * (https://www.standardwebhooks.com), tried again for a day where it is not answered with success.
 *
 * @module
 */

import { createHmac, hkdfSync } from "node:crypto";
import type { OutsidePost } from "../session/notify.ts";
import type { TaskStore } from "../store/task_store.ts";
import type { TaskView } from "./schemas.ts";

/** Pauses after tries that failed, in `ms`; after the last of them it is given up. */
const PAUSES_MS = [5, 60, 5 * 60, 30 * 60, 2 * 3600, 6 * 3600, 15 * 3600].map((s) => s * 1000);
/** How often the store is looked at for calls that are due, in `ms`. */
const LOOK_MS = 1000;
const MAX_AT_ONCE = 8;
const MAX_NOTE_LENGTH = 200;

/** What a sender is made from. */
export interface WebhookSenderOptions {
  readonly store: TaskStore;
  /** secret of this server that those of its tokens are derived from: 32 bytes */
  readonly key: Uint8Array;
  readonly view: (id: string) => TaskView;
  /** sends a POST and gives the status of its answer */
  readonly post: (request: OutsidePost) => Promise<number>;
  /** pauses after tries, in `ms` (default: over a day) */
  readonly pausesMs?: readonly number[];
}

/** The secret that a token's calls are signed with, as Standard Webhooks writes it. */
export function webhookSecret(key: Uint8Array, tokenId: string): string {
  const secret = hkdfSync("sha256", key, new Uint8Array(), `paddock webhook ${tokenId}`, 32);
  return `whsec_${new Uint8Array(secret).toBase64()}`;
}

/** The signature of a call. */
export function signWebhook(
  secret: string,
  call: { readonly id: string; readonly timestampS: number; readonly body: string },
): string {
  const key = Uint8Array.fromBase64(secret.replace(/^whsec_/, ""));
  const hmac = createHmac("sha256", key).update(`${call.id}.${call.timestampS}.${call.body}`);
  return `v1,${hmac.digest("base64")}`;
}

/** Sends what is due. */
export class WebhookSender implements AsyncDisposable {
  readonly #options: WebhookSenderOptions;
  readonly #pausesMs: readonly number[];
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #sending = new Map<string, Promise<void>>();

  constructor(options: WebhookSenderOptions) {
    this.#options = options;
    this.#pausesMs = options.pausesMs ?? PAUSES_MS;
    this.#timer = setInterval(() => this.look(), LOOK_MS);
    Deno.unrefTimer(this.#timer);
  }

  /** Starts the calls that are due. */
  look(): void {
    const free = MAX_AT_ONCE - this.#sending.size;
    const due = this.#options.store.webhooks.next(new Date().toISOString(), MAX_AT_ONCE * 2)
      .filter(({ taskId }) => !this.#sending.has(taskId));
    for (const row of due.slice(0, free)) {
      const sending = this.#send(row).catch((error) => console.error("Webhook:", error))
        .finally(() => this.#sending.delete(row.taskId));
      this.#sending.set(row.taskId, sending);
    }
  }

  async #send({ taskId, url, tries }: { taskId: string; url: string; tries: number }): Promise<void> {
    const { store, key, view, post } = this.#options;
    const row = store.task(taskId);
    if (row === undefined) return;
    // The body of a task is what the API shows of it, whatever happens to it meanwhile
    const body = JSON.stringify({ type: "task.ended", timestamp: row.endedAt, data: view(taskId) });
    const timestampS = Math.floor(Date.now() / 1000);
    const id = `msg_${taskId}`;
    const signature = signWebhook(webhookSecret(key, row.tokenId), { id, timestampS, body });
    let note: string;
    try {
      const status = await post({
        url,
        body,
        headers: {
          "webhook-id": id,
          "webhook-timestamp": `${timestampS}`,
          "webhook-signature": signature,
          "user-agent": "paddock",
        },
      });
      note = `answered ${status}`;
      if (status >= 200 && status < 300) {
        return store.webhooks.tried(taskId, { state: "delivered", nextAt: "", note });
      }
    } catch (error) {
      note = error instanceof Error ? error.message : String(error);
    }
    const pauseMs = this.#pausesMs[tries];
    store.webhooks.tried(taskId, {
      state: pauseMs === undefined ? "failed" : "due",
      nextAt: new Date(Date.now() + (pauseMs ?? 0)).toISOString(),
      note: note.slice(0, MAX_NOTE_LENGTH),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#sending.values());
  }
}
