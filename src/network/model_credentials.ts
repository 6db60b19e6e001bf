/**
 * What the gateway adds to a guest's requests so that the provider takes them: in memory only, and renewed while the
 * gateway runs where it ends before the task.
 *
 * @module
 */

import type { CredentialHeader } from "../../agent-images/agent_login.ts";
import type { AgentModel } from "../../agent-images/agent_spec.ts";

/** Credentials of one task. */
export class ModelCredentials {
  #headers: readonly CredentialHeader[];

  constructor(headers: readonly CredentialHeader[] = []) {
    this.#headers = headers;
  }

  /** headers of the next request */
  get headers(): readonly CredentialHeader[] {
    return this.#headers;
  }

  /** Replaces them: requests that begin from now on carry these. */
  renew(headers: readonly CredentialHeader[]): void {
    this.#headers = headers;
  }
}

/** The header that an agent's provider wants a key in. */
export function keyHeaders(model: AgentModel, apiKey: string): CredentialHeader[] {
  const { name, prefix } = model.keyHeader;
  return [{ name, value: prefix + apiKey }];
}
