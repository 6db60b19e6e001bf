/**
 * A body whose length nobody said: it goes to a file first.
 *
 * @module
 */

import { SessionError } from "./session_error.ts";
import { readFileChunks } from "./workspace_scan.ts";

/** A body of known length; what it took is given back when it is disposed of. */
export interface SpooledBody extends AsyncDisposable {
  readonly sizeBytes: number;
  readonly content: AsyncIterable<Uint8Array>;
}

/** Writes the body to a file in `folder`. @throws {SessionError} when it is over `maxBytes` */
export async function spoolBody(
  folder: string,
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<SpooledBody> {
  const path = await Deno.makeTempFile({ dir: folder, prefix: "body-" });
  await using stack = new AsyncDisposableStack();
  stack.defer(() => Deno.remove(path));
  let sizeBytes = 0;
  {
    using file = await Deno.open(path, { write: true });
    for await (const chunk of body) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw tooLarge(maxBytes);
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
    }
  }
  const owned = stack.move();
  return {
    sizeBytes,
    content: readFileChunks(path),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What is said of a file that is too large for a single one. */
export function tooLarge(maxBytes: number): SessionError {
  return new SessionError("too_large", `A file may be ${maxBytes} bytes long: copy it as an archive`);
}
