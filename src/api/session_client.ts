/**
 * The part of the API's client that is about sessions.
 *
 * @module
 */

import { ApiConnection, type ApiRequestInit } from "./connection.ts";
import { type ExecChild, openExec } from "./exec_client.ts";
import type { TerminalSize } from "./exec_protocol.ts";
import { carryPort } from "./port_client.ts";
import { openTerminal } from "./terminal_client.ts";
import type {
  ExecSubmissionInput,
  FolderListing,
  RunResult,
  RunSubmissionInput,
  SessionSubmissionInput,
  SessionView,
} from "./session_schemas.ts";

function sessionPath(id: string): string {
  return `/v1/sessions/${encodeURIComponent(id)}`;
}

/** A request to a server in a guest. */
export interface PortRequestInit extends ApiRequestInit {
  /** (default: GET) */
  readonly method?: string;
}

/** The sessions of one server. */
export class SessionClient extends ApiConnection {
  /** All sessions. */
  async sessions(): Promise<SessionView[]> {
    return await (await this.request("GET", "/v1/sessions")).json() as SessionView[];
  }

  /** One session. */
  async session(id: string): Promise<SessionView> {
    return await (await this.request("GET", sessionPath(id))).json() as SessionView;
  }

  /** Asks for a session; it is starting when this returns. */
  async createSession(submission: SessionSubmissionInput = {}): Promise<SessionView> {
    return await this.#json("POST", "/v1/sessions", submission);
  }

  /** Waits until a session is no more starting. */
  async startedSession(id: string, signal?: AbortSignal): Promise<SessionView> {
    for (let pauseMs = 50;; pauseMs = Math.min(pauseMs * 1.5, 1000)) {
      const view = await this.session(id);
      if (view.state !== "starting") return view;
      signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  /** Has a session removed so long after now. */
  async extendSession(id: string, ttlMs: number): Promise<SessionView> {
    return await this.#json("PATCH", sessionPath(id), { ttlMs });
  }

  /** Stops a session's CPUs. */
  async pauseSession(id: string): Promise<SessionView> {
    return await this.#json("POST", `${sessionPath(id)}/pause`);
  }

  /** Lets a paused session go on. */
  async resumeSession(id: string): Promise<SessionView> {
    return await this.#json("POST", `${sessionPath(id)}/resume`);
  }

  /** Runs a command in a session to its end. */
  async runCommand(id: string, command: RunSubmissionInput, signal?: AbortSignal): Promise<RunResult> {
    return await this.#json("POST", `${sessionPath(id)}/exec`, command, signal);
  }

  /** Powers a session off; its disk stays. */
  async stopSession(id: string): Promise<SessionView> {
    return await (await this.request("POST", `${sessionPath(id)}/stop`)).json() as SessionView;
  }

  /** Ends a session at once, and removes all of it. */
  async removeSession(id: string): Promise<void> {
    await (await this.request("DELETE", sessionPath(id))).body?.cancel();
  }

  /** What a session's guest printed last on its serial port, or its network journal. */
  async sessionLog(id: string, kind: "console" | "network"): Promise<string> {
    return await (await this.request("GET", `${sessionPath(id)}/${kind}`)).text();
  }

  /** Starts a command in a session. */
  exec(id: string, request: ExecSubmissionInput): ExecChild {
    return openExec({
      url: `${this.baseUrl}${sessionPath(id)}/exec`,
      token: this.token,
      request: { ...request },
      where: `session ${id}`,
    });
  }

  /** Starts a command on a terminal; a connection that breaks is made anew. */
  terminal(id: string, request: ExecSubmissionInput & { readonly terminal: TerminalSize }): ExecChild {
    return openTerminal({
      url: `${this.baseUrl}${sessionPath(id)}/exec`,
      token: this.token,
      request: { ...request },
      where: `session ${id}`,
    });
  }

  /** Carries a connection to a TCP port of a session's guest, until both sides have ended it. */
  async forward(id: string, port: number, conn: Deno.Conn): Promise<void> {
    await carryPort(`${this.baseUrl}${sessionPath(id)}/connect/${port}`, this.token, conn);
  }

  /**
   * Asks an HTTP server in a session's guest, and gives what it answers, or what kept it from that; `path` begins with a
   * slash. Its redirections are not followed.
   */
  async requestPort(id: string, port: number, path: string, init: PortRequestInit = {}): Promise<Response> {
    const { method = "GET", ...more } = init;
    return await this.send(method, `${sessionPath(id)}/ports/${port}${path}`, {
      ...more,
      redirect: "manual",
    });
  }

  /** A file or the content of a folder of a session's guest, as a tar stream. */
  async readFiles(id: string, path: string): Promise<ReadableStream<Uint8Array>> {
    const response = await this.request("GET", `${sessionPath(id)}/files?path=${encodeURIComponent(path)}`);
    return response.body ?? new Blob([]).stream();
  }

  /** Unpacks a tar stream into a folder of a session's guest. */
  async writeFiles(id: string, path: string, tar: ReadableStream<Uint8Array>): Promise<void> {
    const url = `${sessionPath(id)}/files?path=${encodeURIComponent(path)}`;
    await (await this.request("PUT", url, { body: tar })).body?.cancel();
  }

  /** What is in a folder of a session's guest. */
  async listFolder(id: string, path: string): Promise<FolderListing> {
    return await this.#json("GET", `${sessionPath(id)}/files/list?path=${encodeURIComponent(path)}`);
  }

  /** The bytes of one file of a session's guest. */
  async readFile(id: string, path: string): Promise<ReadableStream<Uint8Array>> {
    const url = `${sessionPath(id)}/files/content?path=${encodeURIComponent(path)}`;
    return (await this.request("GET", url)).body ?? new Blob([]).stream();
  }

  /** Writes one file of a session's guest; `mode`: its permission bits. */
  async writeFile(id: string, path: string, content: Uint8Array<ArrayBuffer>, mode = 0o644): Promise<void> {
    const query = new URLSearchParams({ path, mode: mode.toString(8).padStart(3, "0") });
    const init = { body: content, headers: { "content-type": "application/octet-stream" } };
    await (await this.request("PUT", `${sessionPath(id)}/files/content?${query}`, init)).body?.cancel();
  }

  async #json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const init = body === undefined
      ? { signal }
      : { body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal };
    return await (await this.request(method, path, init)).json() as T;
  }
}
