/**
 * Stored events as they go to a client: as server-sent events, or as one page of JSON.
 *
 * @module
 */

import type { EventRow } from "../store/task_store.ts";

function encode(row: EventRow | undefined): Uint8Array {
  // A comment keeps the connection busy, so that the end of the other side is noticed.
  const text = row === undefined ? ": waiting\n\n" : `id: ${row.seq}\ndata: ${withTime(row)}\n\n`;
  return new TextEncoder().encode(text);
}

/** The event's JSON with its time in it; JSON text has no line feeds. */
function withTime(row: EventRow): string {
  return `{"at":${JSON.stringify(row.at)},${row.body.slice(1)}`;
}

/** The response that carries events until `source` ends or the client goes. */
export function eventStream(source: (signal: AbortSignal) => AsyncGenerator<EventRow | undefined>): Response {
  const gone = new AbortController();
  const rows = source(gone.signal);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      const next = await rows.next();
      if (next.done === true) controller.close();
      else controller.enqueue(encode(next.value));
    },
    async cancel(): Promise<void> {
      gone.abort();
      await rows.return(undefined);
    },
  }, { highWaterMark: 0 });
  const headers = { "content-type": "text/event-stream", "cache-control": "no-store" };
  return new Response(body, { headers });
}

/** The response that carries a page of events, each with its position as `seq`. */
export function eventPage(rows: readonly EventRow[], afterSeq: number): Response {
  const events = rows.map((row) => `{"seq":${row.seq},${withTime(row).slice(1)}`);
  const last = rows.at(-1)?.seq ?? afterSeq;
  return new Response(`{"events":[${events.join(",")}],"lastSeq":${last}}`, {
    headers: { "content-type": "application/json", "cache-control": "no-store" },
  });
}
