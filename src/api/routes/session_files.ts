/**
 * `/v1/sessions/{id}/files`: archives, single files and folders of a session's guest.
 *
 * @module
 */

import type { Context } from "hono";
import { SessionError } from "../../session/session_error.ts";
import { tooLarge } from "../../session/spooled_body.ts";
import { MAX_FILE_BYTES } from "../live_session.ts";
import {
  addRoute,
  type ApiRoutes,
  bytesAnswer,
  createRoute,
  idParams,
  jsonAnswer,
  problems,
  z,
} from "../openapi.ts";
import { folderListingSchema } from "../session_schemas.ts";
import type { SessionService } from "../session_service.ts";

/** What a guest wrote is nothing that a browser should show as ours. */
const GUEST_BYTES = {
  "content-security-policy": "sandbox; default-src 'none'",
  "x-content-type-options": "nosniff",
  "content-disposition": "attachment",
} as const;

const path = z.string().max(4096).regex(/^\/[^\0]*$/, "must be an absolute path in the guest");
const AT_PATH = { params: idParams, query: z.object({ path }) };
const TAR = "application/x-tar";
const BYTES = "application/octet-stream";
const bytesBody = (contentType: string) => ({
  required: true,
  content: { [contentType]: { schema: z.string().openapi({ format: "binary" }) } },
});

const getArchiveRoute = createRoute({
  method: "get",
  path: "/{id}/files",
  summary: "A file, or the content of a folder, as a tar archive",
  request: AT_PATH,
  responses: { 200: bytesAnswer("The archive", TAR), ...problems(404, 409) },
});

const putArchiveRoute = createRoute({
  method: "put",
  path: "/{id}/files",
  summary: "Unpack a tar archive into a folder",
  request: { ...AT_PATH, body: bytesBody(TAR) },
  responses: { 204: { description: "It is unpacked" }, ...problems(404, 409, 413) },
});

const listFolderRoute = createRoute({
  method: "get",
  path: "/{id}/files/list",
  summary: "What is in a folder",
  request: AT_PATH,
  responses: { 200: jsonAnswer("Its entries by name", folderListingSchema), ...problems(404, 409) },
});

const getFileRoute = createRoute({
  method: "get",
  path: "/{id}/files/content",
  summary: "The bytes of one file",
  request: AT_PATH,
  responses: { 200: bytesAnswer("The bytes", BYTES), ...problems(404, 409, 413) },
});

const putFileRoute = createRoute({
  method: "put",
  path: "/{id}/files/content",
  summary: "Write one file; it belongs to the agent then",
  request: {
    params: idParams,
    query: AT_PATH.query.extend({
      mode: z.string().regex(/^[0-7]{3}$/, "must be octal, like 755").default("644"),
    }),
    body: bytesBody(BYTES),
  },
  responses: { 204: { description: "It is written" }, ...problems(404, 409, 413) },
});

/** What a guest sends, as a body. What it refuses it refuses at once: that is an error, and no stream that breaks off. */
async function toBody(chunks: AsyncGenerator<Uint8Array>): Promise<ReadableStream<Uint8Array>> {
  const first = await chunks.next();
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      const next = await chunks.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
    start(controller): void {
      if (first.done !== true) controller.enqueue(first.value);
    },
    cancel: async () => void await chunks.return(undefined),
  }, { highWaterMark: 0 });
}

function bodyOf(context: Context): ReadableStream<Uint8Array> {
  return context.req.raw.body ?? new Blob([]).stream();
}

/** How long a body says that it is (undefined: it does not say). */
function bodyLength(context: Context): number | undefined {
  const text = context.req.header("content-length");
  if (text === undefined || context.req.header("transfer-encoding") !== undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(text)) throw new SessionError("config", "Content-Length is malformed");
  if (Number(text) > MAX_FILE_BYTES) throw tooLarge(MAX_FILE_BYTES);
  return Number(text);
}

/** Adds the routes about files. */
export function addFileRoutes(routes: ApiRoutes, sessions: SessionService): void {
  const liveOf = async (context: Context): ReturnType<SessionService["running"]> =>
    await sessions.running(context.req.param("id") ?? "");
  addRoute(routes, getArchiveRoute, async (context) => {
    const live = await liveOf(context);
    const body = await toBody(live.readArchive(context.req.valid("query").path));
    return new Response(body, { headers: { ...GUEST_BYTES, "content-type": TAR } });
  });
  addRoute(routes, putArchiveRoute, async (context) => {
    const live = await liveOf(context);
    await live.writeArchive(context.req.valid("query").path, bodyOf(context));
    return context.body(null, 204);
  });
  addRoute(routes, listFolderRoute, async (context) => {
    const live = await liveOf(context);
    return context.json(await live.list(context.req.valid("query").path));
  });
  addRoute(routes, getFileRoute, async (context) => {
    const live = await liveOf(context);
    const { sizeBytes, content } = await live.openFile(context.req.valid("query").path);
    const headers = { ...GUEST_BYTES, "content-type": BYTES, "content-length": String(sizeBytes) };
    return new Response(await toBody(content), { headers });
  });
  addRoute(routes, putFileRoute, async (context) => {
    const live = await liveOf(context);
    const { path, mode } = context.req.valid("query");
    await live.writeFile(path, {
      sizeBytes: bodyLength(context),
      mode: Number.parseInt(mode, 8),
      content: bodyOf(context),
    });
    return context.body(null, 204);
  });
}
