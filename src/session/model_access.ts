/**
 * What a session's requests to its model carry, and where they go.
 *
 * @module
 */

import type { AgentModel } from "../../agent-images/agent_spec.ts";
import type { ModelCredentials } from "../network/model_credentials.ts";
import { type GatewayUpstream, NO_UPSTREAM } from "../network/model_gateway.ts";

export { keyHeaders, ModelCredentials } from "../network/model_credentials.ts";

/** What the gateway of a session leads to: its agent's model, if that has one. */
export function modelUpstream(
  model: AgentModel | undefined,
  modelUrl: string | undefined,
  credentials: ModelCredentials,
): GatewayUpstream {
  if (model === undefined) return NO_UPSTREAM;
  const { paths, baseUrl, errorShape } = model;
  return { baseUrl: (modelUrl ?? baseUrl).replace(/\/+$/, ""), paths, credentials, errorShape };
}
