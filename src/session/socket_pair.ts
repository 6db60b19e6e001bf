/**
 * Joins two WebSockets: what comes to one goes to the other.
 *
 * @module
 */

/** Most bytes that wait for a slow side; one that is further behind loses its connection. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

type Message = string | ArrayBuffer;

function closeWith(socket: WebSocket, { code, reason }: Pick<CloseEvent, "code" | "reason">): void {
  // Other codes are for those who speak the protocol themselves: RFC 6455 §7.4
  const isAllowed = code === 1000 || (code >= 3000 && code < 5000);
  try {
    socket.close(isAllowed ? code : 1000, isAllowed ? reason.slice(0, 100) : "");
  } catch {
    // It is closing already
  }
}

function send(from: WebSocket, to: WebSocket, message: Message): void {
  if (to.readyState !== WebSocket.OPEN) return;
  if (to.bufferedAmount > MAX_WAITING_BYTES) {
    for (const socket of [from, to]) closeWith(socket, { code: 4000, reason: "the other side is too slow" });
    return;
  }
  to.send(message);
}

/** Waits until `inner` is open, then has `upgrade` make the other side; gives its response. @throws when it does not open */
export async function joinSockets(
  inner: WebSocket,
  upgrade: () => { readonly socket: WebSocket; readonly response: Response },
): Promise<Response> {
  inner.binaryType = "arraybuffer";
  // What the inner side says first waits for the outer one
  const early: Message[] = [];
  let forward = (message: Message): void => void early.push(message);
  inner.onmessage = (event: MessageEvent<Message>): void => forward(event.data);
  await new Promise<void>((resolve, reject) => {
    inner.onopen = (): void => resolve();
    inner.onerror = (event): void => reject(new Error((event as ErrorEvent).message ?? "no WebSocket"));
    inner.onclose = (): void => reject(new Error("no WebSocket"));
  });
  inner.onerror = (): void => {};
  const { socket: outer, response } = upgrade();
  outer.binaryType = "arraybuffer";
  outer.onopen = (): void => {
    forward = (message) => send(inner, outer, message);
    early.splice(0).forEach(forward);
    // It may have closed before
    if (inner.readyState !== WebSocket.OPEN) closeWith(outer, { code: 1000, reason: "" });
  };
  outer.onmessage = (event: MessageEvent<Message>): void => send(outer, inner, event.data);
  outer.onerror = (): void => {};
  outer.onclose = (event): void => closeWith(inner, event);
  inner.onclose = (event): void => closeWith(outer, event);
  return response;
}
