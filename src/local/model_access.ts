/**
 * What a task's requests to its model carry, and where they go: a key from the environment, the login of the agent's
 * own client, or nothing. Its secrets stay in memory.
 *
 * @module
 */

import type { AgentLogin, CredentialHeader } from "../../agent-images/agent_login.ts";
import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { LocalError } from "./local_error.ts";
import { LoginFile } from "./login_file.ts";

/** Time for the image, the boot and the result, beside the agent's own, in `ms`. */
const MARGIN_MS = 20 * 60_000;
/** A token is renewed this long before its end, in `ms`. */
const RENEW_AHEAD_MS = 5 * 60_000;
/** Pause after a try that failed, in `ms`. */
const RETRY_MS = 60_000;
const MAX_TIMER_MS = 2 ** 31 - 1;
const DEMO_KEY = "demo-key-not-a-secret";
const DEFAULT_TIMEOUT_MS = 30 * 60_000;

/** Options of {@linkcode openModelAccess}. */
export interface ModelAccessOptions {
  readonly spec: AgentSpec;
  readonly demo: boolean;
  /** use the login of the agent's client even where there is a key */
  readonly login: boolean;
  readonly modelUrl?: string | undefined;
  readonly timeoutMs?: number | undefined;
  /** whoever runs the task may have a key of its own */
  readonly isOptional?: boolean;
  readonly onNotice: (message: string) => void;
}

/** Access to a model. */
export interface ModelAccess {
  readonly apiKey?: string;
  readonly modelUrl?: string;
  /** what a login adds to requests in place of a key */
  readonly modelHeaders?: readonly CredentialHeader[];
  /** Tells of a login's next headers as the ones before end, until the signal. */
  follow(push: (headers: readonly CredentialHeader[]) => Promise<void>, signal: AbortSignal): void;
}

/** Key of the scripted model. */
export { DEMO_KEY };

/** Finds what there is. @throws {LocalError} that says what is missing */
export async function openModelAccess(options: ModelAccessOptions): Promise<ModelAccess> {
  const { spec, demo, modelUrl, onNotice } = options;
  const follow = (): void => {};
  if (spec.model === undefined) {
    if (!demo && !options.login && modelUrl === undefined) return { follow };
    throw new LocalError("usage", `${spec.title} uses no model: leave out --demo, --login and --model-url`);
  }
  const { keyVariable, login } = spec.model;
  const apiKey = Deno.env.get(keyVariable)?.trim() ?? "";
  // From here on the key is in memory only: what is started later does not inherit it.
  Deno.env.delete(keyVariable);
  if (demo) return { apiKey: DEMO_KEY, follow };
  const url = modelUrl === undefined ? {} : { modelUrl };
  if (apiKey !== "" && !options.login) {
    onNotice(`Using the key in ${keyVariable}`);
    return { apiKey, ...url, follow };
  }
  if (options.login && login === undefined) {
    throw new LocalError("usage", `${spec.title} has no login that can be used: set ${keyVariable}`);
  }
  // A login goes to its own provider, and elsewhere only when that is asked for.
  const isWanted = options.login || modelUrl === undefined;
  const file = login === undefined || !isWanted ? undefined : await LoginFile.find(login);
  if (login !== undefined && file !== undefined) return await openLogin(file, { ...options, login });
  if (options.login && login !== undefined) {
    throw new LocalError(
      "usage",
      `There is no ${login.title}: make one with ${JSON.stringify(login.command)}`,
    );
  }
  if (modelUrl !== undefined || options.isOptional === true) return { ...url, follow };
  const orLogin = login === undefined ? "" : `, log in with ${JSON.stringify(login.command)}`;
  throw new LocalError(
    "usage",
    `${keyVariable} is not set: set it${orLogin}, or use --demo to run without a key`,
  );
}

async function openLogin(
  file: LoginFile,
  options: Omit<ModelAccessOptions, "login"> & { readonly login: AgentLogin },
): Promise<ModelAccess> {
  const { login, modelUrl = login.baseUrl, onNotice, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const first = await file.tokens(timeoutMs + MARGIN_MS);
  onNotice(`Using the ${login.title} in ${file.path}`);
  if (first.warning !== undefined) onNotice(first.warning);
  return {
    modelUrl,
    modelHeaders: login.headers(first.tokens),
    follow(push, signal): void {
      void (async (): Promise<void> => {
        for (let state = first; !signal.aborted;) {
          const { expiresAtMs } = state.tokens;
          if (expiresAtMs === undefined) return;
          const dueMs = expiresAtMs - Date.now() - RENEW_AHEAD_MS;
          await pause(
            state === first || state.warning === undefined ? dueMs : Math.max(dueMs, RETRY_MS),
            signal,
          );
          if (signal.aborted) return;
          state = await file.tokens(2 * RENEW_AHEAD_MS);
          if (state.warning !== undefined) onNotice(state.warning);
          await push(login.headers(state.tokens));
        }
      })().catch((error) => {
        // The model's API says the rest once the token has ended.
        if (!signal.aborted) onNotice(error instanceof Error ? error.message : String(error));
      });
    },
  };
}

/** Waits, without keeping the process alive. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(Math.max(ms, 1000), MAX_TIMER_MS));
    Deno.unrefTimer(timer);
    signal.addEventListener("abort", done, { once: true });
  });
}
