/**
 * The secret of a state folder that those of its tokens' webhooks are derived from.
 *
 * @module
 */

import { join } from "node:path";
import { ownId } from "../session/owner.ts";

/** The secret, 32 bytes; made once. */
export async function webhookKey(stateDir: string): Promise<Uint8Array> {
  const path = join(stateDir, "webhook.key");
  const draft = `${path}.${ownId(stateDir)}`;
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await Deno.writeFile(draft, crypto.getRandomValues(new Uint8Array(32)), { mode: 0o600 });
  await Deno.rename(draft, path);
  return await Deno.readFile(path);
}
