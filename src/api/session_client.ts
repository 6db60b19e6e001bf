/**
 * The part of the API's client that is about sessions.
 *
 * @module
 */

import { ApiConnection } from "./connection.ts";
import { type ExecChild, openExec } from "./exec_client.ts";
import { carryPort } from "./port_client.ts";
import type { ExecSubmissionInput, SessionView } from "./schemas.ts";

function sessionPath(id: string): string {
  return `/v1/sessions/${encodeURIComponent(id)}`;
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

  /** Powers a kept session off; its disk stays. */
  async stopSession(id: string): Promise<SessionView> {
    return await (await this.request("POST", `${sessionPath(id)}/stop`)).json() as SessionView;
  }

  /** Ends a kept session at once, and removes its disk. */
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

  /** Carries a connection to a TCP port of a session's guest, until both sides have ended it. */
  async forward(id: string, port: number, conn: Deno.Conn): Promise<void> {
    await carryPort(`${this.baseUrl}${sessionPath(id)}/ports/${port}`, this.token, conn);
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
}
