/**
 * The file in which an agent's own client keeps its login on this machine: read anew each time, since that client
 * renews it too, and renewed here when what it holds ends too soon. The provider takes a refresh token once and gives
 * the next, so that the file is renewed by one process at a time and replaced as a whole.
 *
 * @module
 */

import { join } from "node:path";
import type { AgentLogin, LoginTokens } from "../../agent-images/agent_login.ts";
import { type Json, object, parseObject, string } from "../../agent-images/json.ts";
import { LocalError } from "./local_error.ts";

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_ANSWER_BYTES = 1024 * 1024;
const REFRESH_LIMIT_MS = 30_000;
/** Longest wait for another process that renews the same file. */
const LOCK_LIMIT_MS = 60_000;
const LOCK_POLL_MS = 100;
/** A token that ends sooner is as good as ended. */
const LEAST_VALID_MS = 30_000;
const MAX_DETAIL_LENGTH = 200;

/** The provider did not renew a login, or could not be asked. */
class RefreshError extends Error {
  override readonly name = "RefreshError";
}

/** What a login gave. */
export interface LoginState {
  readonly tokens: LoginTokens;
  /** why it could not be renewed although it ends soon (undefined: it was, or did not have to be) */
  readonly warning?: string;
}

/** A login's file. */
export class LoginFile {
  readonly path: string;
  readonly #login: AgentLogin;
  readonly #tokenUrl: string;

  constructor(login: AgentLogin, path: string, tokenUrl = login.tokenUrl) {
    this.#login = login;
    this.path = path;
    this.#tokenUrl = tokenUrl;
  }

  /** The login of this user; undefined: there is none. */
  static async find(login: AgentLogin): Promise<LoginFile | undefined> {
    const { variable, inHome } = login.folder;
    const home = Deno.env.get("HOME") || "/root";
    const tokenUrl = login.tokenUrlVariable === undefined ? undefined : Deno.env.get(login.tokenUrlVariable);
    const folder = Deno.env.get(variable) || join(home, inHome);
    const file = new LoginFile(login, join(folder, login.fileName), tokenUrl || login.tokenUrl);
    try {
      return (await file.#read()).tokens === undefined ? undefined : file;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /**
   * Tokens that are valid for `validForMs`, renewed where need be. What cannot be renewed is used while it lasts.
   *
   * @throws {LocalError} when there are none that can be used
   */
  async tokens(validForMs: number): Promise<LoginState> {
    const { tokens } = await this.#readAgain();
    if (isValidFor(tokens, validForMs)) return { tokens };
    try {
      return { tokens: await this.#renew(tokens, validForMs) };
    } catch (error) {
      if (!(error instanceof RefreshError)) throw error;
      const message = `Cannot renew the ${this.#login.title} in "${this.path}": ${error.message}`;
      // Its own client may have renewed it meanwhile.
      const { tokens: now } = await this.#readAgain();
      if (isValidFor(now, LEAST_VALID_MS)) return { tokens: now, warning: message };
      throw new LocalError(
        "usage",
        `${message}; log in again with ${JSON.stringify(this.#login.command)}, or use a key`,
        { cause: error },
      );
    }
  }

  async #read(): Promise<{ readonly file: Json; readonly tokens: LoginTokens | undefined }> {
    const { size } = await Deno.stat(this.path);
    if (size > MAX_FILE_BYTES) throw new LocalError("usage", `Cannot use "${this.path}": it is over 1 MiB`);
    const file = parseObject(await Deno.readTextFile(this.path));
    return { file: file ?? {}, tokens: file === undefined ? undefined : this.#login.read(file) };
  }

  async #readAgain(): Promise<{ readonly file: Json; readonly tokens: LoginTokens }> {
    const { file, tokens } = await this.#read().catch((cause) => {
      if (cause instanceof LocalError) throw cause;
      throw new LocalError("usage", `Cannot read the ${this.#login.title} in "${this.path}"`, { cause });
    });
    if (tokens !== undefined) return { file, tokens };
    throw new LocalError("usage", `There is no ${this.#login.title} in "${this.path}" any more`);
  }

  /** Renews what is in the file, unless somebody else just did. */
  async #renew(seen: LoginTokens, validForMs: number): Promise<LoginTokens> {
    const realPath = await Deno.realPath(this.path);
    using _ = await lockFile(realPath);
    const { file, tokens } = await this.#readAgain();
    if (tokens.accessToken !== seen.accessToken && isValidFor(tokens, Math.min(validForMs, LEAST_VALID_MS))) {
      return tokens;
    }
    if (tokens.refreshToken === undefined) throw new RefreshError("it holds no refresh token");
    // First the place for it: a token that was renewed and could not be kept would be lost.
    using draft = await openDraft(realPath);
    const answer = await this.#ask(tokens.refreshToken);
    const renewed = this.#login.renewed(file, answer, Date.now());
    const next = this.#login.read(renewed);
    if (next === undefined || typeof answer.access_token !== "string") {
      throw new RefreshError("the provider's answer holds no token");
    }
    await draft.replace(`${JSON.stringify(renewed, null, 2)}\n`);
    return next;
  }

  async #ask(refreshToken: string): Promise<Json> {
    let status: number;
    let text: string;
    try {
      const response = await fetch(this.#tokenUrl, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(this.#login.refreshRequest(refreshToken)),
        redirect: "error",
        signal: AbortSignal.timeout(REFRESH_LIMIT_MS),
      });
      status = response.status;
      text = await response.text();
    } catch (cause) {
      throw new RefreshError(`${new URL(this.#tokenUrl).host} cannot be reached`, { cause });
    }
    const answer = text.length > MAX_ANSWER_BYTES ? undefined : parseObject(text);
    if (status === 200 && answer !== undefined) return answer;
    const detail = describeRefusal(answer ?? {}).replaceAll(refreshToken, "…");
    throw new RefreshError(`the provider refused with status ${status}${detail === "" ? "" : `: ${detail}`}`);
  }
}

function isValidFor({ expiresAtMs }: LoginTokens, ms: number): boolean {
  return expiresAtMs === undefined || expiresAtMs - Date.now() >= ms;
}

/** What a refusal says: RFC 6749 §5.2 as it stands, or within an object. */
function describeRefusal({ error, error_description }: Json): string {
  const { message, code } = object(error);
  const said = [string(error_description), string(message), string(error), string(code)].find((text) => text);
  return (said ?? "").slice(0, MAX_DETAIL_LENGTH);
}

/**
 * Takes the lock of a file that is replaced rather than written: whoever waited for it finds another file in its place and
 * begins anew. It ends with its process, and leaves nothing behind.
 */
async function lockFile(path: string): Promise<Disposable> {
  for (const end = Date.now() + LOCK_LIMIT_MS; Date.now() < end;) {
    const file = await Deno.open(path);
    if (await file.tryLock(true)) {
      const [held, current] = [await file.stat(), await Deno.stat(path)];
      if (held.ino === current.ino && held.dev === current.dev) return file;
    }
    file.close();
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  throw new RefreshError("another process has it locked");
}

/** A file beside another, which can take its place with the same mode and owner. */
async function openDraft(path: string): Promise<Disposable & { replace(text: string): Promise<void> }> {
  const draftPath = `${path}.paddock-new`;
  const { mode, uid, gid } = await Deno.stat(path);
  let isKept = false;
  try {
    // One that a killed process left
    await Deno.remove(draftPath).catch(() => {});
    using draft = await Deno.open(draftPath, { write: true, createNew: true, mode: 0o600 });
    const made = await draft.stat();
    if (made.uid !== uid || made.gid !== gid) await Deno.chown(draftPath, uid, gid);
    await Deno.chmod(draftPath, (mode ?? 0o600) & 0o777);
  } catch (cause) {
    throw new RefreshError("its folder cannot be written", { cause });
  }
  return {
    async replace(text): Promise<void> {
      using draft = await Deno.open(draftPath, { write: true });
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length;) at += await draft.write(bytes.subarray(at));
      await draft.sync();
      await Deno.rename(draftPath, path);
      isKept = true;
    },
    [Symbol.dispose](): void {
      if (!isKept) Deno.removeSync(draftPath);
    },
  };
}
