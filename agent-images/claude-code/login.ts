/**
 * The login of Claude Code with a Claude account.
 *
 * @module
 */

import type { AgentLogin, LoginTokens } from "../agent_login.ts";
import { type Json, object } from "../json.ts";

/** `~/.claude/.credentials.json`. */
export const CLAUDE_LOGIN: AgentLogin = {
  title: "Claude login of Claude Code",
  command: "claude /login",
  folder: { variable: "CLAUDE_CONFIG_DIR", inHome: ".claude" },
  fileName: ".credentials.json",
  baseUrl: "https://api.anthropic.com",
  tokenUrl: "https://platform.claude.com/v1/oauth/token",
  read(file): LoginTokens | undefined {
    const { accessToken, refreshToken, expiresAt } = object(file.claudeAiOauth);
    if (typeof accessToken !== "string" || accessToken === "") return undefined;
    return {
      accessToken,
      refreshToken: typeof refreshToken === "string" && refreshToken !== "" ? refreshToken : undefined,
      expiresAtMs: typeof expiresAt === "number" ? expiresAt : undefined,
    };
  },
  refreshRequest: (refreshToken) => ({
    grant_type: "refresh_token",
    refresh_token: refreshToken,
    client_id: "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
  }),
  renewed(file, answer, nowMs): Json {
    const { access_token, refresh_token, expires_in } = answer;
    return {
      ...file,
      claudeAiOauth: {
        ...object(file.claudeAiOauth),
        ...(typeof access_token === "string" ? { accessToken: access_token } : {}),
        ...(typeof refresh_token === "string" ? { refreshToken: refresh_token } : {}),
        ...(typeof expires_in === "number" ? { expiresAt: nowMs + expires_in * 1000 } : {}),
      },
    };
  },
  headers: ({ accessToken }) => [
    { name: "authorization", value: `Bearer ${accessToken}` },
    // Without it the API takes keys only
    { name: "anthropic-beta", value: "oauth-2025-04-20", isListed: true },
  ],
};
