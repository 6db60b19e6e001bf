import assert from "node:assert/strict";
import { type FlowHandlers, FlowSocket, openSocket } from "../../src/api/flow_socket.ts";

type Handlers = Partial<FlowHandlers>;

function complete(handlers: Handlers): FlowHandlers {
  return { onData: () => {}, onMessage: () => {}, onClose: () => {}, ...handlers };
}

/** A server whose one connection has `serve` as its handlers, and a client of it. */
async function withPair(
  serve: Handlers,
  client: Handlers,
  use: (client: FlowSocket, server: Promise<FlowSocket>) => Promise<void>,
): Promise<void> {
  const accepted = Promise.withResolvers<FlowSocket>();
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    accepted.resolve(new FlowSocket(socket, complete(serve)));
    return response;
  });
  const flow = new FlowSocket(openSocket(`http://127.0.0.1:${server.addr.port}/`, "t"), complete(client));
  try {
    await use(flow, accepted.promise);
  } finally {
    flow.close();
    (await accepted.promise).close();
    await server.shutdown();
  }
}

const deadline = (ms: number): Promise<"late"> =>
  new Promise((resolve) => Deno.unrefTimer(setTimeout(() => resolve("late"), ms)));

Deno.test("bytes of two channels arrive whole and in order, and so does their end", async () => {
  const got = new Map<number, number[]>();
  const ended = Promise.withResolvers<void>();
  const onData = (channel: number, bytes: Uint8Array): void => {
    if (bytes.length === 0) return ended.resolve();
    got.set(channel, [...got.get(channel) ?? [], ...bytes]);
  };
  await withPair({ onData }, {}, async (client) => {
    const first = Uint8Array.from({ length: 200_000 }, (_, index) => index * 7);
    const sending = client.send(0, first);
    await client.send(9, Uint8Array.of(1, 2, 3));
    await sending;
    await client.end(0);
    await ended.promise;
    assert.deepEqual(Uint8Array.from(got.get(0) ?? []), first);
    assert.deepEqual(got.get(9), [1, 2, 3]);
  });
});

Deno.test("a sender waits for a reader that consumes nothing, and goes on when it does", async () => {
  let byteCount = 0;
  const gate = Promise.withResolvers<void>();
  const onData = async (_channel: number, bytes: Uint8Array): Promise<void> => {
    await gate.promise;
    byteCount += bytes.length;
  };
  await withPair({ onData }, {}, async (client) => {
    const sending = client.send(0, new Uint8Array(20 * 1024 * 1024));
    assert.equal(await Promise.race([sending, deadline(300)]), "late");
    assert.equal(byteCount, 0);
    gate.resolve();
    await sending;
    while (byteCount < 20 * 1024 * 1024) await new Promise((resolve) => setTimeout(resolve, 1));
  });
});

Deno.test("a sender that waits is released when the connection ends", async () => {
  const never = new Promise<void>(() => {});
  await withPair({ onData: () => never }, {}, async (client, server) => {
    const sending = client.send(0, new Uint8Array(20 * 1024 * 1024));
    (await server).close();
    await sending;
    assert.equal(client.isOpen, false);
  });
});

Deno.test("a peer that sends beyond the window, or anything but JSON, loses its connection", async () => {
  const attacks: ((socket: WebSocket) => void)[] = [
    (socket): void => {
      for (let sent = 0; sent < 100; sent++) socket.send(new Uint8Array(64 * 1024 + 1));
    },
    (socket): void => socket.send("{not json"),
    (socket): void => socket.send("null"),
    (socket): void => socket.send(new Uint8Array()),
  ];
  for (const attack of attacks) {
    const closed = Promise.withResolvers<void>();
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      new FlowSocket(
        socket,
        complete({ onData: () => new Promise<void>(() => {}), onClose: () => closed.resolve() }),
      );
      return response;
    });
    const socket = openSocket(`http://127.0.0.1:${server.addr.port}/`, "t");
    socket.onopen = (): void => attack(socket);
    await closed.promise;
    await server.shutdown();
  }
});

Deno.test("messages arrive, acknowledgements do not", async () => {
  const messages: unknown[] = [];
  const got = Promise.withResolvers<void>();
  const onMessage = (message: unknown): void => {
    messages.push(message);
    if (messages.length === 2) got.resolve();
  };
  await withPair({}, { onMessage }, async (client, server) => {
    await client.send(0, new Uint8Array(10));
    const flow = await server;
    await flow.message({ type: "resize", rows: 3, cols: 4 });
    await flow.message({ type: "ack", bytes: 0 });
    await flow.message({ type: "exit" });
    await got.promise;
    assert.deepEqual(messages, [{ type: "resize", rows: 3, cols: 4 }, { type: "exit" }]);
  });
});
