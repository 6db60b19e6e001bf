/**
 * Requests to one server of the API, with its token; refusals become errors.
 *
 * @module
 */

/** The server refused or failed a request. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** HTTP status (0: no answer) */
  readonly status: number;
  /** problem's code */
  readonly code: string;

  constructor(
    message: string,
    facts: { readonly status: number; readonly code: string; readonly cause?: unknown },
  ) {
    super(message, { cause: facts.cause });
    this.status = facts.status;
    this.code = facts.code;
  }
}

async function toApiError(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const problem = JSON.parse(text) as { detail?: unknown; code?: unknown };
    return new ApiError(String(problem.detail), { status: response.status, code: String(problem.code) });
  } catch {
    // Not a problem document: something else answered.
    return new ApiError(`Server answered ${response.status}`, { status: response.status, code: "unknown" });
  }
}

/** What a request carries. */
export interface ApiRequestInit {
  readonly body?: BodyInit;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** what to do where the answer says to ask elsewhere (default: follow) */
  readonly redirect?: "manual";
}

/** Options of {@linkcode ApiConnection}. */
export interface ConnectionOptions {
  /** the server's, without a trailing slash */
  readonly baseUrl: string;
  readonly token: string;
  /** what makes requests (default: the network) */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** Requests to one server. */
export class ApiConnection {
  /** the server's, without a trailing slash */
  protected readonly baseUrl: string;
  protected readonly token: string;
  readonly #fetch: NonNullable<ConnectionOptions["fetch"]>;

  constructor(options: ConnectionOptions) {
    this.baseUrl = options.baseUrl;
    this.#fetch = options.fetch ?? fetch;
    this.token = options.token;
  }

  /** Makes a request. @throws {ApiError} unless it is answered well */
  protected async request(method: string, path: string, init: ApiRequestInit = {}): Promise<Response> {
    const response = await this.send(method, path, init);
    if (!response.ok) throw await toApiError(response);
    return response;
  }

  /** Makes a request, whatever is answered. @throws {ApiError} when nothing is */
  protected async send(method: string, path: string, init: ApiRequestInit): Promise<Response> {
    try {
      return await this.#fetch(this.baseUrl + path, {
        method,
        headers: { ...init.headers, authorization: `Bearer ${this.token}` },
        body: init.body ?? null,
        signal: init.signal ?? null,
        ...(init.redirect === undefined ? {} : { redirect: init.redirect }),
      });
    } catch (cause) {
      if (init.signal?.aborted === true) throw cause;
      throw new ApiError(`Cannot reach the server at ${this.baseUrl}`, {
        status: 0,
        code: "unreachable",
        cause,
      });
    }
  }
}
