/**
 * Makes a WebSocket out of a request.
 *
 * @module
 */

import { SessionError } from "../session/session_error.ts";
import { chosenProtocol } from "./access.ts";

/**
 * Answers a request with a WebSocket; with `idleSeconds` a peer that has gone without a word is noticed after that time.
 *
 * @throws {SessionError} when it does not ask for one
 */
export function upgradeSocket(
  request: Request,
  serve: (socket: WebSocket) => void,
  idleSeconds = 0,
): Response {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    throw new SessionError("config", "This is a WebSocket: the request must ask for the upgrade");
  }
  const protocol = chosenProtocol(request);
  let upgraded: Deno.WebSocketUpgrade;
  try {
    const options = { idleTimeout: idleSeconds, ...(protocol === undefined ? {} : { protocol }) };
    upgraded = Deno.upgradeWebSocket(request, options);
  } catch (cause) {
    throw new SessionError("config", "The request's headers are not those of a WebSocket", { cause });
  }
  serve(upgraded.socket);
  return upgraded.response;
}
