/**
 * A terminal into a session.
 *
 * @module
 */

import type { SessionView } from "../session_schemas.ts";
import { FlowSocket } from "../flow_socket.ts";
import { byId, fill, h } from "./dom.ts";
import { ask, token } from "./service.ts";

const STDIN = 0;
/** The terminal emulator is loaded when the first terminal is opened. */
const EMULATOR_URL = "/assets/xterm.mjs";

interface Emulator {
  readonly rows: number;
  readonly cols: number;
  open(element: HTMLElement): void;
  write(bytes: Uint8Array | string, done?: () => void): void;
  onData(listener: (text: string) => void): void;
  resize(cols: number, rows: number): void;
  focus(): void;
  dispose(): void;
}

/** The sessions that can be entered. */
export async function showSessions(into: Element): Promise<void> {
  const sessions = await (await ask("/v1/sessions")).json() as readonly SessionView[];
  fill(
    into,
    sessions.length === 0 ? h("p", { class: "empty" }, "There are no sessions.") : h(
      "ul",
      { class: "list" },
      ...sessions.map(({ id, state, agent, memoryMib }) =>
        h(
          "li",
          {},
          h("a", { href: `#/sessions/${id}` }, h("b", {}, agent), ` ${id}`),
          h("a", { class: "quiet", href: `#/sessions/${id}/root` }, "as root"),
          h("span", { class: `badge ${state}` }, state),
          ` ${memoryMib} MiB`,
        )
      ),
    ),
  );
}

/** Characters that fit into an element, by the size of one of them. */
function fitting(element: HTMLElement): { cols: number; rows: number } {
  const probe = h("span", { class: "probe" }, "M".repeat(10));
  element.append(probe);
  const { width, height } = probe.getBoundingClientRect();
  probe.remove();
  const cols = Math.floor(element.clientWidth / Math.max(1, width / 10)) - 1;
  return {
    cols: Math.max(20, cols),
    rows: Math.max(5, Math.floor(element.clientHeight / Math.max(1, height))),
  };
}

/** Opens a shell in a session until the signal. */
export async function showTerminal(
  { id, user }: { readonly id: string; readonly user: "agent" | "root" },
  into: Element,
  signal: AbortSignal,
): Promise<void> {
  const box = h("div", { class: "terminal", id: "terminal" });
  const status = h("p", { role: "status" }, "Connecting…");
  fill(into, h("h2", {}, `Session ${id}`), status, box);
  const { Terminal } = await import(EMULATOR_URL) as { Terminal: new (options: object) => Emulator };
  const size = fitting(byId("terminal"));
  const terminal = new Terminal({ ...size, cursorBlink: true, fontSize: 14, screenReaderMode: true });
  terminal.open(box);
  const url = new URL(`/v1/sessions/${id}/exec`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, ["paddock", `paddock.bearer.${token()}`]);
  const flow = new FlowSocket(socket, {
    // Shown is consumed: the server waits while the emulator does
    onData: (_channel, bytes) => new Promise((resolve) => terminal.write(bytes.slice(), resolve)),
    onMessage: (message) => {
      const { type, exitCode, message: why } = message as {
        type?: string;
        exitCode?: number;
        message?: string;
      };
      if (type === "exit") status.textContent = `The shell ended with ${exitCode ?? "a signal"}.`;
      if (type === "error") status.textContent = why ?? "Cannot open a shell here.";
      if (type === "exit" || type === "error") void flow.consumed().then(() => flow.close());
    },
    onClose: () => {
      if (status.textContent === "Connected.") status.textContent = "The connection is gone.";
    },
  });
  void flow.message({
    argv: ["/bin/bash", "-l"],
    user,
    cwd: user === "root" ? "/" : "/workspace",
    terminal: size,
  });
  status.textContent = "Connected.";
  terminal.onData((text) => void flow.send(STDIN, new TextEncoder().encode(text)));
  const resize = (): void => {
    const { cols, rows } = fitting(box);
    terminal.resize(cols, rows);
    void flow.message({ type: "resize", cols, rows });
  };
  addEventListener("resize", resize);
  terminal.focus();
  signal.addEventListener("abort", () => {
    removeEventListener("resize", resize);
    flow.close();
    terminal.dispose();
  }, { once: true });
}
