/**
 * Sessions for tests of the API: the real init, run natively, in place of a VM.
 *
 * @module
 */

import type { PreparedImage } from "../../src/images/prepare.ts";
import type { SessionMaker } from "../../src/session/boot_session.ts";
import type { GuestClient } from "../../src/session/guest_client.ts";
import type { Session } from "../../src/session/session.ts";
import type { VmEnd } from "../../src/session/vm_end.ts";

/** What has become of a session that was made. */
export interface MadeSession {
  readonly id: string;
  isPaused: boolean;
  isDisposed: boolean;
  /** Ends its VM. */
  readonly end: (end: VmEnd) => void;
}

/** A maker of sessions that all have the same guest, and what it made. */
export interface FakeMaker {
  readonly make: SessionMaker;
  readonly prepare: () => Promise<PreparedImage>;
  readonly made: MadeSession[];
}

/** Makes one; `beforeBoot` is waited for by each session. */
export function fakeMaker(
  guest: GuestClient,
  beforeBoot: () => Promise<void> = () => Promise.resolve(),
): FakeMaker {
  const made: MadeSession[] = [];
  const make: SessionMaker = async ({ id, stateDir, signal }) => {
    const folder = `${stateDir}/sessions/${id}`;
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(`${folder}/overlay.qcow2`, "a disk");
    const ended = Promise.withResolvers<VmEnd>();
    const facts: MadeSession = { id, isPaused: false, isDisposed: false, end: ended.resolve };
    made.push(facts);
    const session = {
      id,
      folder,
      guest,
      ended: ended.promise,
      consoleText: "the last words\n",
      within: (_limitMs: number, action: () => Promise<unknown>) => action(),
      pause: () => Promise.resolve(void (facts.isPaused = true)),
      resume: () => Promise.resolve(void (facts.isPaused = false)),
      powerOff: () => {
        const end = { type: "stopped", reason: "poweroff", exits: {} } as const;
        ended.resolve(end);
        return Promise.resolve(end);
      },
      async [Symbol.asyncDispose](): Promise<void> {
        facts.isDisposed = true;
        await Deno.remove(folder, { recursive: true });
      },
    };
    try {
      await beforeBoot();
      signal.throwIfAborted();
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    return session as unknown as Session;
  };
  const prepare = (): Promise<PreparedImage> => Promise.resolve({ imageKey: "k" } as PreparedImage);
  return { make, prepare, made };
}
