/**
 * The credentials that a service has for tasks that bring none: the keys in its environment, and the logins of the agents'
 * own clients.
 *
 * @module
 */

import { keyHeaders, ModelCredentials } from "../network/model_credentials.ts";
import { AGENT_NAMES, findAgent } from "../session/agents.ts";
import { LocalError } from "./local_error.ts";
import { openModelAccess } from "./model_access.ts";

/** Credentials by agent; an agent without any has none. */
export type ServerCredentials = (agent: string) => ModelCredentials;

/** Finds what there is; a login is renewed until the signal. Keys leave the environment: nothing inherits them. */
export async function openServerCredentials(
  options: { readonly onNotice: (message: string) => void; readonly signal: AbortSignal },
): Promise<ServerCredentials> {
  const byAgent = new Map<string, ModelCredentials>();
  const keys = new Map<string, string>();
  for (const name of AGENT_NAMES) {
    const model = findAgent(name)?.model;
    if (model === undefined) continue;
    // Several agents may have the same variable
    const key = keys.get(model.keyVariable) ?? Deno.env.get(model.keyVariable)?.trim() ?? "";
    Deno.env.delete(model.keyVariable);
    keys.set(model.keyVariable, key);
    if (key !== "") byAgent.set(name, new ModelCredentials(keyHeaders(model, key)));
    else if (model.login !== undefined) await useLogin(name, byAgent, options);
  }
  const found = [...byAgent.keys()];
  options.onNotice(found.length === 0 ? "No keys of models" : `Has credentials for ${found.join(", ")}`);
  return (agent) => byAgent.get(agent) ?? new ModelCredentials();
}

async function useLogin(
  name: string,
  byAgent: Map<string, ModelCredentials>,
  { onNotice, signal }: Parameters<typeof openServerCredentials>[0],
): Promise<void> {
  const spec = findAgent(name);
  if (spec === undefined) return;
  try {
    const access = await openModelAccess({ spec, demo: false, login: false, onNotice });
    const credentials = new ModelCredentials(access.modelHeaders);
    byAgent.set(name, credentials);
    access.follow((headers) => Promise.resolve(credentials.renew(headers)), signal);
  } catch (error) {
    // There is none, or it cannot be used: tasks may bring their own
    if (!(error instanceof LocalError)) throw error;
    if (error.code !== "usage") onNotice(error.message);
  }
}
