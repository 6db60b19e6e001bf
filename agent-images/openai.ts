/**
 * OpenAI's model API, as the agents that use it need it.
 *
 * @module
 */
import type { AgentModel } from "./agent_spec.ts";
import { OPENAI_PRICES } from "./openai_prices.ts";

/** Model of agents that have no default of their own. */
export const OPENAI_DEFAULT_MODEL = "gpt-6.1-sol";

/** The Responses API. */
export const OPENAI_RESPONSES: AgentModel = {
  baseUrl: "https://api.openai.com/v1",
  keyVariable: "OPENAI_API_KEY",
  keyHeader: { name: "authorization", prefix: "Bearer " },
  errorShape: "openai",
  paths: [{ method: "POST", path: "/responses" }],
  prices: OPENAI_PRICES,
};
