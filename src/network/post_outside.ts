/**
 * Sends one POST to a URL that somebody else chose, and to nothing inside: the name's addresses are checked, and a
 * checked one is connected to.
 *
 * @module
 */

import { connectOutside, HOST_OUTSIDE, type Outside } from "./outside.ts";

/** Longest wait for an answer, in `ms`. */
const ANSWER_LIMIT_MS = 15_000;
/** Longest head of an answer that is read, in bytes; its body is not. */
const MAX_HEAD_BYTES = 16 * 1024;

/** What is sent. */
export interface OutsidePost {
  readonly url: string;
  /** headers beside those of every request; none of them from a stranger */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

/** The status of the first line of an answer. */
async function readStatus(conn: Deno.Conn): Promise<number> {
  const buffer = new Uint8Array(4096);
  let text = "";
  while (!text.includes("\r\n")) {
    const count = await conn.read(buffer);
    if (count === null || text.length > MAX_HEAD_BYTES) break;
    text += new TextDecoder("latin1").decode(buffer.subarray(0, count));
  }
  const status = /^HTTP\/1\.[01] ([1-5][0-9]{2})(?: |\r)/.exec(text)?.[1];
  if (status === undefined) throw new Error("the answer is not HTTP");
  return Number(status);
}

/** Sends a POST and gives the status of its answer; redirects are not followed. @throws when there is none */
export async function postOutside(
  { url, headers, body }: OutsidePost,
  outside: Outside = HOST_OUTSIDE,
): Promise<number> {
  const { hostname, host, port, protocol, pathname, search } = new URL(url);
  const isTls = protocol === "https:";
  const bytes = new TextEncoder().encode(body);
  const lines = { ...headers, "content-type": "application/json", "content-length": `${bytes.length}` };
  const head = [
    `POST ${pathname}${search} HTTP/1.1`,
    `host: ${host}`,
    "connection: close",
    ...Object.entries(lines).map(([name, value]) => `${name}: ${value}`),
  ].join("\r\n");
  const name = hostname.replace(/^\[|\]$/g, "");
  let conn = await connectOutside(outside, name, Number(port || (isTls ? 443 : 80)));
  const timer = setTimeout(() => conn.close(), ANSWER_LIMIT_MS);
  try {
    if (isTls) conn = await Deno.startTls(conn as Deno.TcpConn, { hostname: name });
    await writeAll(conn, new TextEncoder().encode(`${head}\r\n\r\n`));
    await writeAll(conn, bytes);
    return await readStatus(conn);
  } finally {
    clearTimeout(timer);
    try {
      conn.close();
    } catch {
      // The time was over
    }
  }
}
