/**
 * The login of Codex with a ChatGPT account.
 *
 * @module
 */

import type { AgentLogin, LoginTokens } from "../agent_login.ts";
import { type Json, object, parseObject } from "../json.ts";

/** The claims of a token, which are not checked: only their owner's server can tell. */
function claimsOf(token: unknown): Json {
  const [, payload = ""] = typeof token === "string" ? token.split(".") : [];
  try {
    const bytes = Uint8Array.fromBase64(payload, { alphabet: "base64url" });
    return parseObject(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {}; // not a token of this form
  }
}

function nonEmpty(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** `~/.codex/auth.json`. */
export const CODEX_LOGIN: AgentLogin = {
  title: "ChatGPT login of Codex",
  command: "codex login",
  folder: { variable: "CODEX_HOME", inHome: ".codex" },
  fileName: "auth.json",
  baseUrl: "https://chatgpt.com/backend-api/codex",
  tokenUrl: "https://auth.openai.com/oauth/token",
  tokenUrlVariable: "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
  read(file): LoginTokens | undefined {
    const tokens = object(file.tokens);
    const accessToken = nonEmpty(tokens.access_token);
    if (accessToken === undefined) return undefined;
    const { exp } = claimsOf(accessToken);
    const account = object(claimsOf(tokens.id_token)["https://api.openai.com/auth"]).chatgpt_account_id;
    return {
      accessToken,
      refreshToken: nonEmpty(tokens.refresh_token),
      expiresAtMs: typeof exp === "number" ? exp * 1000 : undefined,
      accountId: nonEmpty(tokens.account_id) ?? nonEmpty(account),
    };
  },
  refreshRequest: (refreshToken) => ({
    client_id: "app_EMoamEEZ73f0CkXaXp7hrann",
    grant_type: "refresh_token",
    refresh_token: refreshToken,
  }),
  renewed(file, answer, nowMs): Json {
    const renewed = ["id_token", "access_token", "refresh_token"].flatMap((name) => {
      const value = nonEmpty(answer[name]);
      return value === undefined ? [] : [[name, value]];
    });
    return {
      ...file,
      tokens: { ...object(file.tokens), ...Object.fromEntries(renewed) },
      last_refresh: new Date(nowMs).toISOString(),
    };
  },
  headers: ({ accessToken, accountId }) => [
    { name: "authorization", value: `Bearer ${accessToken}` },
    ...(accountId === undefined ? [] : [{ name: "chatgpt-account-id", value: accountId }]),
  ],
};
