import assert from "node:assert/strict";
import { CHANNEL } from "../../src/api/exec_protocol.ts";
import { FlowSocket, openSocket } from "../../src/api/flow_socket.ts";
import { openTerminal } from "../../src/api/terminal_client.ts";
import { serveExec } from "../../src/api/session_sockets.ts";
import { Terminals } from "../../src/api/terminals.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";

const SIZE = { rows: 20, cols: 70 };

interface Setup {
  readonly url: string;
  /** breaks all connections, without a word; `more`: those to come, too */
  readonly cut: (more?: boolean) => void;
  readonly terminals: Terminals;
}

/** Terminals of the real init behind a server whose connections can be cut. */
async function withTerminals(use: (setup: Setup) => Promise<void>): Promise<void> {
  await withNativeGuest(async (guest) => {
    using terminals = new Terminals();
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const { searchParams } = new URL(request.url);
      const id = searchParams.get("terminal") ?? "";
      const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
      serveExec(socket, async (message, sink) => {
        if (id !== "new") return terminals.attach(id, sink, Number(searchParams.get("after")));
        const { argv } = message as { argv: string[] };
        return await terminals.open(sink, (onStdout) =>
          guest.exec({
            argv,
            env: { PATH: "/usr/bin:/bin", TERM: "xterm" },
            cwd: "/",
            user: "root",
            terminal: SIZE,
            onStdout,
            onStderr: onStdout,
          }));
      }, { isBack: id !== "new" });
      return response;
    });
    const relay = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const open = new Set<Deno.Conn>();
    let isShut = false;
    void (async (): Promise<void> => {
      for await (const conn of relay) {
        if (isShut) {
          conn.close();
          continue;
        }
        const inner = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
        open.add(conn).add(inner);
        void conn.readable.pipeTo(inner.writable).catch(() => {});
        void inner.readable.pipeTo(conn.writable).catch(() => {});
      }
    })().catch(() => {});
    const cut = (more = false): void => {
      isShut = more;
      for (const conn of open) {
        try {
          conn.close();
        } catch {
          // It was closed already
        }
      }
      open.clear();
    };
    try {
      await use({ url: `http://127.0.0.1:${relay.addr.port}/`, cut, terminals });
    } finally {
      cut(true);
      relay.close();
      await server.shutdown();
    }
  });
}

const testTerminals = (name: string, use: (setup: Setup) => Promise<void>): void =>
  testWithNativeGuest(name, () => withTerminals(use));

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Collects what a stream gives, until it holds something. */
class Screen {
  text = "";

  constructor(stream: ReadableStream<Uint8Array>) {
    void stream.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
      .pipeTo(new WritableStream({ write: (text) => void (this.text += text) }));
  }

  async shows(pattern: RegExp): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!pattern.test(this.text)) {
      assert.ok(performance.now() < deadline, `no ${pattern} in ${JSON.stringify(this.text.slice(-500))}`);
      await delay(10);
    }
  }
}

testTerminals(
  "a terminal goes on when its connection breaks: nothing is lost and nothing comes twice",
  async ({ url, cut }) => {
    const script =
      "stty -echo; echo begun; for i in $(seq 1 40); do echo line $i.; sleep 0.05; done; read a; echo got $a; exit 5";
    const child = openTerminal({
      url,
      token: "t",
      request: { argv: ["sh", "-c", script] },
      where: "the test",
    });
    const screen = new Screen(child.stdout);
    await screen.shows(/line 5\./);
    cut();
    await screen.shows(/line 20\./);
    cut();
    await screen.shows(/line 40\./);
    const lines = [...screen.text.matchAll(/line (\d+)\./g)].map(([, number]) => Number(number));
    assert.deepEqual(lines, Array.from({ length: 40 }, (_, index) => index + 1));
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("typed\r"));
    await screen.shows(/got typed/);
    assert.equal((await child.status).code, 5);
  },
);

testTerminals("how a command ended while nobody looked is told to who comes back", async ({ url, cut }) => {
  const child = openTerminal({
    url,
    token: "t",
    request: { argv: ["sh", "-c", "echo up; sleep 0.3; echo down; exit 7"] },
    where: "the test",
  });
  const screen = new Screen(child.stdout);
  await screen.shows(/up/);
  cut(true);
  await delay(600);
  cut(false);
  assert.equal((await child.status).code, 7);
  await screen.shows(/up\r\ndown/);
});

/** A connection to a terminal, as a client of one's own would have it. */
class RawTerminal {
  id = "";
  offset = -1;
  text = "";
  end: unknown;
  readonly flow: FlowSocket;

  constructor(url: string, query: string) {
    this.flow = new FlowSocket(openSocket(`${url}?${query}`, "t"), {
      onMessage: (message) => {
        if (message.type === "terminal") {
          [this.id, this.offset] = [String(message.id), Number(message.offset)];
        } else {
          this.end = message;
          this.flow.close();
        }
      },
      onData: (_channel, bytes) => void (this.text += new TextDecoder().decode(bytes)),
      onClose: () => {},
    });
  }

  async until(isSo: () => boolean): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!isSo()) {
      assert.ok(performance.now() < deadline, JSON.stringify(this.text.slice(-300)));
      await delay(5);
    }
  }
}

testTerminals("of much that was missed the last 256 KiB are shown", async ({ url, cut }) => {
  const first = new RawTerminal(url, "terminal=new");
  const script = "stty -echo -opost; sleep 0.5; yes 0123456789abcde | head -c 1000000; echo END; sleep 60";
  await first.flow.message({ argv: ["sh", "-c", script] });
  await first.until(() => first.id !== "");
  cut();
  await delay(2000);
  const second = new RawTerminal(url, `terminal=${first.id}&after=5`);
  await second.until(() => second.text.endsWith("END\n"));
  const { length } = second.text;
  assert.ok(length >= 256 * 1024 && length < 300 * 1024, `${length} bytes`);
  assert.equal(second.offset + length, 1_000_004);
  await second.flow.message({ type: "kill" });
  await second.until(() => second.end !== undefined);
});

testTerminals(
  "a resize reaches a terminal; a second connection takes the first one's place",
  async ({ url }) => {
    const first = new RawTerminal(url, "terminal=new");
    await first.flow.message({ argv: ["sh", "-c", "stty -echo; while read a; do stty size; done"] });
    await first.until(() => first.id !== "");
    await first.flow.message({ type: "resize", rows: 33, cols: 44 });
    await first.flow.send(CHANNEL.stdin, new TextEncoder().encode("\r"));
    await first.until(() => first.text.includes("33 44"));
    const second = new RawTerminal(url, `terminal=${first.id}&after=0`);
    await second.until(() => second.text.includes("33 44") && !first.flow.isOpen);
    await second.flow.message({ type: "kill" });
    await second.until(() => second.end !== undefined);
    const none = new RawTerminal(url, "terminal=nothere");
    await none.until(() => none.end !== undefined);
    assert.deepEqual(none.end, { type: "error", message: "There is no such terminal any more" });
  },
);
