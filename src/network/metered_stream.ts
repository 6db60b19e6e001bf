/**
 * Passes a byte stream on chunk by chunk, pulling only as fast as the reader reads, and counts what passes.
 *
 * @module
 */

/** Why a metered stream ended. */
export type StreamEnd = "complete" | "too_large" | "silent" | "source_failed" | "reader_gone";

/** What passed, and how it ended. */
export interface StreamFacts {
  readonly end: StreamEnd;
  readonly byteCount: number;
  /** time from the last byte to the end in `ms` */
  readonly idleMs: number;
  /** the first bytes, up to `keepBytes` */
  readonly head: Uint8Array;
}

/** Options of {@linkcode meterStream}. */
export interface MeterOptions {
  /** most bytes that may pass */
  readonly maxBytes: number;
  /** longest wait for the next chunk in `ms` (default: forever) */
  readonly idleTimeoutMs?: number;
  /** bytes from the start to keep a copy of (default none) */
  readonly keepBytes?: number;
  /** given every chunk before it passes on (default: nobody) */
  readonly onChunk?: ((chunk: Uint8Array) => void) | undefined;
  /** told exactly once how the stream ended */
  readonly onEnd: (facts: StreamFacts) => void;
}

/** A metered stream was ended by its limits. */
export class StreamLimitError extends Error {
  override readonly name = "StreamLimitError";
  readonly end: "too_large" | "silent";

  constructor(message: string, end: "too_large" | "silent") {
    super(message);
    this.end = end;
  }
}

const SILENT = Symbol("silent");

async function readWithin(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  timeoutMs: number | undefined,
): Promise<ReadableStreamReadResult<Uint8Array> | typeof SILENT> {
  if (timeoutMs === undefined) return await reader.read();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<typeof SILENT>((resolve) => {
    timer = setTimeout(() => resolve(SILENT), timeoutMs);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wraps `source`; see {@linkcode MeterOptions}. */
export function meterStream(
  source: ReadableStream<Uint8Array>,
  options: MeterOptions,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  const kept: Uint8Array[] = [];
  let keptBytes = 0;
  let byteCount = 0;
  let lastByteAt = performance.now();
  let ended = false;
  const finish = (end: StreamEnd): void => {
    if (ended) return;
    ended = true;
    options.onEnd({ end, byteCount, idleMs: performance.now() - lastByteAt, head: join(kept, keptBytes) });
  };
  const cancelSource = (): void => void reader.cancel().catch(() => {/* it is being given up anyway */});
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        const read = await readWithin(reader, options.idleTimeoutMs);
        if (read === SILENT) throw new StreamLimitError("Nothing arrived in time", "silent");
        if (read.done) {
          finish("complete");
          controller.close();
          return;
        }
        byteCount += read.value.length;
        lastByteAt = performance.now();
        if (byteCount > options.maxBytes) throw new StreamLimitError("Too many bytes arrived", "too_large");
        options.onChunk?.(read.value);
        const more = read.value.slice(0, Math.max(0, (options.keepBytes ?? 0) - keptBytes));
        if (more.length > 0) kept.push(more);
        keptBytes += more.length;
        controller.enqueue(read.value);
      } catch (error) {
        finish(error instanceof StreamLimitError ? error.end : "source_failed");
        cancelSource();
        controller.error(error);
      }
    },
    cancel(): void {
      finish("reader_gone");
      cancelSource();
    },
  }, { highWaterMark: 0 });
}

function join(chunks: readonly Uint8Array[], sizeBytes: number): Uint8Array {
  const all = new Uint8Array(sizeBytes);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}
