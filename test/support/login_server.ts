/**
 * A scripted OAuth server on the loopback interface: takes each refresh token once and gives the next.
 *
 * @module
 */

/** How it answers instead of renewing. */
export type LoginFault = "refuse" | "fail" | "nonsense";

/** A running server. */
export interface LoginServer extends AsyncDisposable {
  readonly url: string;
  /** bodies of the requests that came */
  readonly requests: readonly Record<string, unknown>[];
  fault: LoginFault | undefined;
  /** the refresh token that it takes next, and the access token that it gave last */
  readonly refreshToken: string;
  readonly accessToken: string;
}

/** A token of the form that ChatGPT's have, which ends at a time. */
export function jwt(expiresAtMs: number, name: string): string {
  const part = (value: unknown): string =>
    new TextEncoder().encode(JSON.stringify(value)).toBase64({ alphabet: "base64url", omitPadding: true });
  return [part({ alg: "none" }), part({ exp: Math.floor(expiresAtMs / 1000), name }), "secret-sig"].join(".");
}

/** Starts a server whose access tokens last `validMs`. */
export function startLoginServer(refreshToken: string, validMs: number): LoginServer {
  const requests: Record<string, unknown>[] = [];
  const state = { refreshToken, accessToken: "", fault: undefined as LoginFault | undefined };
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const body = await request.json() as Record<string, unknown>;
    requests.push(body);
    if (state.fault === "nonsense") return new Response("<html>");
    if (state.fault === "fail") return new Response("busy", { status: 503 });
    if (state.fault === "refuse" || body.refresh_token !== state.refreshToken) {
      const error = { code: "refresh_token_reused", message: `already used: ${body.refresh_token}` };
      return Response.json({ error }, { status: 401 });
    }
    const count = requests.length;
    state.refreshToken = `secret-refresh-${count}-${crypto.randomUUID()}`;
    state.accessToken = jwt(Date.now() + validMs, `access ${count} ${crypto.randomUUID()}`);
    return Response.json({
      access_token: state.accessToken,
      refresh_token: state.refreshToken,
      expires_in: validMs / 1000,
    });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/oauth/token`,
    requests,
    get fault(): LoginFault | undefined {
      return state.fault;
    },
    set fault(fault) {
      state.fault = fault;
    },
    get refreshToken(): string {
      return state.refreshToken;
    },
    get accessToken(): string {
      return state.accessToken;
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
