/**
 * What the host can ask of a running guest: run a command, put and get files, tell the time, power off.
 *
 * @module
 */

import { GuestConnection } from "./guest_connection.ts";
import { DATA_PAYLOAD_BYTES, decodeI32, decodeWords, encodeU32, GuestProtocolError } from "./guest_frames.ts";

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly rows: number;
  readonly cols: number;
}

/** A command for the guest. */
export interface GuestCommand {
  readonly argv: readonly string[];
  /** complete environment */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** user name in the guest */
  readonly user: string;
  /** its stdin is what is written to it (default: /dev/null; on a terminal always) */
  readonly stdin?: boolean | undefined;
  /** run it on a terminal of this size; stdout and stderr are one then (default: on pipes) */
  readonly terminal?: TerminalSize | undefined;
  /** receives stdout; the guest's command waits while the promise is pending */
  readonly onStdout: (chunk: Uint8Array) => void | Promise<void>;
  /** receives stderr likewise */
  readonly onStderr: (chunk: Uint8Array) => void | Promise<void>;
}

/** How a command in the guest ended. */
export interface GuestExit {
  /** exit code, when it exited by itself */
  readonly exitCode: number | null;
  /** signal number, when a signal ended it */
  readonly signal: number | null;
  /** the guest's own time limit ended it */
  readonly timedOut: boolean;
}

/** A command that was started in the guest. */
export interface GuestProcess {
  /** how it ended; rejects when the connection breaks first */
  readonly exit: Promise<GuestExit>;
  /** Sends a signal to its process group. */
  signal(signalNumber: number): Promise<void>;
  /** Writes to its stdin; waits while it does not read. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends its stdin. */
  closeStdin(): Promise<void>;
  /** Tells its terminal a new size. */
  resize(size: TerminalSize): Promise<void>;
  /** Gives it up: the guest kills its process group. */
  close(): void;
}

/** A connection to a server in the guest, to be closed by who asked for it. */
export interface GuestStream {
  readonly conn: Deno.Conn;
  /** bytes that have come already, before those of `conn` */
  readonly first: Uint8Array;
}

/** What the guest says of itself once it is up. */
export interface GuestHello {
  readonly kernel: string;
  /** guest's uptime in `ms` */
  readonly uptimeMs: number;
}

function parseExit(payload: Uint8Array): GuestExit {
  const kind = payload[0];
  const value = decodeI32(payload, 1);
  switch (kind) {
    case 0:
      return { exitCode: value, signal: null, timedOut: false };
    case 1:
      return { exitCode: null, signal: value, timedOut: false };
    case 2:
      return { exitCode: null, signal: null, timedOut: true };
    default:
      throw new GuestProtocolError(`Cannot read how the command ended: kind ${kind}`);
  }
}

async function pumpOutput(connection: GuestConnection, command: GuestCommand): Promise<GuestExit> {
  using _ = connection;
  for (;;) {
    const frame = await connection.receive();
    if (frame === undefined) {
      throw new GuestProtocolError("Guest closed the connection before the command ended");
    }
    switch (frame.type) {
      case "s":
        break;
      case "o":
        await command.onStdout(frame.payload);
        break;
      case "e":
        await command.onStderr(frame.payload);
        break;
      case "x":
        return parseExit(frame.payload);
      default:
        throw new GuestProtocolError(`Guest sent an unknown frame "${frame.type}"`);
    }
  }
}

/** The control channel of one guest. */
export class GuestClient {
  readonly #socketPath: string;

  /** `socketPath`: the VMM's vsock socket */
  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Starts a command. */
  async exec(command: GuestCommand): Promise<GuestProcess> {
    const connection = await GuestConnection.open(this.#socketPath);
    const { terminal } = command;
    await connection.request("E", [
      ...command.argv.map((word) => ["arg", word] as const),
      ...Object.entries(command.env).map(([name, value]) => ["env", `${name}=${value}`] as const),
      ["cwd", command.cwd],
      ["user", command.user],
      ...(command.stdin === true ? [["stdin", "1"] as const] : []),
      ...(terminal === undefined ? [] : [["pty", `${terminal.rows}x${terminal.cols}`] as const]),
    ]);
    const exit = pumpOutput(connection, command);
    // Whoever started the command may look at its end later, or never.
    exit.catch(() => {});
    return {
      exit,
      signal: (signalNumber) => connection.send("k", encodeU32(signalNumber)),
      write: async (bytes) => {
        for (let at = 0; at < bytes.length; at += DATA_PAYLOAD_BYTES) {
          await connection.send("i", bytes.subarray(at, at + DATA_PAYLOAD_BYTES));
        }
      },
      closeStdin: () => connection.send("I"),
      resize: ({ rows, cols }) => connection.send("w", encodeU32((rows & 0xffff) | (cols << 16))),
      close: () => connection.close(),
    };
  }

  /** Connects to a TCP port of the guest's loopback interface. */
  async connect(port: number): Promise<GuestStream> {
    const connection = await GuestConnection.open(this.#socketPath);
    try {
      await connection.request("C", [["port", String(port)]]);
      await connection.expect("r");
      return connection.release();
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Unpacks a tar stream into a folder of the guest. */
  async put(
    tar: AsyncIterable<Uint8Array>,
    target: { readonly path: string; readonly uid?: number; readonly gid?: number },
  ): Promise<void> {
    using connection = await GuestConnection.open(this.#socketPath);
    const owner = [["uid", target.uid], ["gid", target.gid]] as const;
    await connection.request("P", [
      ["path", target.path],
      ...owner.flatMap(([key, value]) => value === undefined ? [] : [[key, String(value)] as const]),
    ]);
    // The answer is awaited from the start: a guest that refuses says so in the middle of the stream.
    const answer = connection.expect("r");
    answer.catch(() => {});
    try {
      for await (const chunk of tar) {
        for (let at = 0; at < chunk.length; at += DATA_PAYLOAD_BYTES) {
          await connection.send("d", chunk.subarray(at, at + DATA_PAYLOAD_BYTES));
        }
      }
      await connection.send("D");
    } catch (error) {
      // A broken pipe only says that the guest stopped listening: its own words say why.
      if (error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset) {
        await answer;
      }
      throw error;
    }
    await answer;
  }

  /** A folder of the guest as a tar stream. */
  async *get(path: string, maxBytes: number): AsyncGenerator<Uint8Array> {
    using connection = await GuestConnection.open(this.#socketPath);
    await connection.request("G", [["path", path], ["max_bytes", String(maxBytes)]]);
    let byteCount = 0;
    for (;;) {
      const frame = await connection.receive();
      if (frame === undefined) {
        throw new GuestProtocolError("Guest closed the connection inside a tar stream");
      }
      if (frame.type === "D") return;
      if (frame.type !== "d") throw new GuestProtocolError(`Guest sent an unknown frame "${frame.type}"`);
      byteCount += frame.payload.length;
      if (byteCount > maxBytes) throw new GuestProtocolError(`Guest sent more than ${maxBytes} bytes of tar`);
      yield frame.payload;
    }
  }

  /** Sets the guest's clock to the host's. */
  async setClock(): Promise<void> {
    await this.#simple("T", [["unix_ns", `${Date.now()}000000`]]);
  }

  /** Asks whether the guest's init answers. */
  async ping(): Promise<void> {
    await this.#simple("N");
  }

  /** Asks for an orderly power-off. */
  async powerOff(): Promise<void> {
    await this.#simple("O");
  }

  async #simple(type: string, words: readonly (readonly [string, string])[] = []): Promise<void> {
    using connection = await GuestConnection.open(this.#socketPath);
    await connection.request(type, words);
    await connection.expect("r");
  }
}

/** Reads the guest's greeting from a connection it made. */
export async function readHello(conn: Deno.UnixConn): Promise<GuestHello> {
  using connection = GuestConnection.accepted(conn);
  const words = decodeWords((await connection.expect("H")).payload);
  const uptimeMs = Number(words.get("uptime_ms"));
  if (words.get("version") !== "1") {
    throw new GuestProtocolError("Guest's init speaks another protocol version");
  }
  return {
    kernel: (words.get("kernel") ?? "").slice(0, 100),
    uptimeMs: Number.isFinite(uptimeMs) ? uptimeMs : 0,
  };
}
