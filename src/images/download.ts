/**
 * Downloads of the image builders.
 *
 * @module
 */
import { ImageError } from "./image_error.ts";

/** How long a server may take to answer, in `ms`: where it is out of reach something else is used. */
const CONNECT_TIMEOUT_MS = 5000;

/** How a file is downloaded. */
export interface DownloadFileOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (done: number, total: number) => void;
  /** longest file that is taken */
  readonly maxBytes?: number;
  /** what the user can do when nobody answers */
  readonly hint?: string;
}

/** Downloads `url` into a new file at `path`. @throws {ImageError} `unreachable` when nobody answers, or the answer breaks off */
export async function downloadFile(
  url: string,
  path: string,
  options: DownloadFileOptions = {},
): Promise<void> {
  const connected = new AbortController();
  const timer = setTimeout(() => connected.abort(), CONNECT_TIMEOUT_MS);
  const signals = [connected.signal, ...(options.signal === undefined ? [] : [options.signal])];
  let response: Response;
  try {
    response = await fetch(url, { signal: AbortSignal.any(signals) });
  } catch (error) {
    throw unreachable(url, options, error);
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw unreachable(url, options, new ImageError("unreachable", `HTTP ${response.status}`, ""));
  }
  const total = Number(response.headers.get("content-length") ?? 0);
  let done = 0;
  using file = await Deno.open(path, { create: true, write: true, truncate: true });
  try {
    for await (const bytes of response.body) {
      if (done + bytes.length > (options.maxBytes ?? Infinity)) throw tooLong(url);
      for (let written = 0; written < bytes.length;) written += await file.write(bytes.subarray(written));
      options.onBytes?.(done += bytes.length, total);
    }
  } catch (error) {
    if (error instanceof ImageError) throw error;
    if (error instanceof Error && /ENOSPC|no space/i.test(error.message)) throw error;
    throw unreachable(url, options, error);
  }
}

function tooLong(url: string): ImageError {
  const hint = "Do not use what this network serves; try again on another network";
  return new ImageError("bad_checksum", `"${url}" is longer than the file that is published`, hint);
}

function unreachable(url: string, options: DownloadFileOptions, cause: unknown): ImageError {
  if (options.signal?.aborted) {
    return new ImageError("aborted", "Stopped a download", "Run the command again", { cause });
  }
  const why = cause instanceof Error ? cause.message : String(cause);
  const hint = options.hint ?? "Check the network";
  return new ImageError("unreachable", `Cannot download "${url}": ${why}`, hint, { cause });
}
