/**
 * What the emulated host's server is asked and answers, beside the API's own exec protocol, by which its commands run.
 *
 * @module
 */

/** What to run. */
export interface ExecRequest {
  readonly argv: readonly string[];
  readonly cwd?: string;
  /** variables added to the server's own */
  readonly env?: Readonly<Record<string, string>>;
}

/** What `GET /host/info` answers. */
export interface HostInfo {
  /** state of the source tree when the server started */
  readonly sourceStamp: string;
  /** tasks and commands that are running */
  readonly active: number;
  readonly denoVersion: string;
  readonly uptimeMs: number;
}
