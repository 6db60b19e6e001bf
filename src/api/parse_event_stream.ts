/**
 * Reads server-sent events, for the command line and for the page.
 *
 * @module
 */

/** Splits a stream of server-sent events into their ids and data. */
export async function* parseEventStream(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<{ readonly id: string; readonly data: string }> {
  let pending = "";
  for await (const text of body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)) {
    pending += text;
    for (let end = pending.indexOf("\n\n"); end !== -1; end = pending.indexOf("\n\n")) {
      const lines = pending.slice(0, end).split("\n");
      pending = pending.slice(end + 2);
      const field = (name: string): string =>
        lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join(
          "\n",
        );
      const data = field("data");
      if (data !== "") yield { id: field("id"), data };
    }
  }
}
