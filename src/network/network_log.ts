/**
 * Takes all decisions about a guest's network: writes them into the journal, tells each kind of decision once as
 * it first happens, and counts. A guest that tries without end fills neither the journal nor anybody's screen.
 *
 * @module
 */

import type { EgressPolicy } from "./egress_policy.ts";
import type { GatewayDecision } from "./model_gateway.ts";
import type { NetworkDecision, OnNetworkDecision } from "./network_decision.ts";
import { type JournalEnd, NetworkJournal } from "./network_journal.ts";

/** Denials and failures that are told apart; what comes after is only counted. */
const MAX_DISTINCT = 1000;
/** Decisions that are told while they happen. */
const MAX_TOLD = 200;
/** Lines of connections that were allowed, and of requests to the model. */
const MAX_PASSED_LINES = 50_000;
/** Denials that stand in a result. */
const MAX_SUMMARY_DENIALS = 50;

/** What a result says about the network. */
export interface NetworkSummary {
  readonly mode: string;
  /** SHA-256 of the policy in its canonical form, in hex */
  readonly policySha256: string;
  readonly allowed: number;
  readonly denied: number;
  readonly failed: number;
  /** first denials, with how often each happened */
  readonly denials: readonly (NetworkDecision & { readonly count: number })[];
  /** end of `network.jsonl`'s chain of hashes */
  readonly journal: JournalEnd;
}

/** The log of one session. */
export class NetworkLog {
  readonly #policy: EgressPolicy;
  readonly #journal: NetworkJournal;
  readonly #onFirst: OnNetworkDecision;
  readonly #counts = { allowed: 0, denied: 0, failed: 0 };
  readonly #repeated = new Map<string, { readonly decision: NetworkDecision; count: number }>();
  readonly #told = new Set<string>();
  #passedLines = 0;
  #omitted = 0;
  #summary: NetworkSummary | undefined;

  /** `onFirst` is told of each decision when it is made for the first time. */
  constructor(
    options: { readonly path: string; readonly policy: EgressPolicy; readonly onFirst: OnNetworkDecision },
  ) {
    this.#policy = options.policy;
    this.#onFirst = options.onFirst;
    this.#journal = new NetworkJournal(options.path);
    this.#journal.append({ type: "policy", mode: this.#policy.mode, sha256: this.#policy.digest });
  }

  /** Takes a decision that was made `count` times. */
  add(decision: NetworkDecision, count = 1): void {
    if (this.#summary !== undefined) return;
    this.#counts[decision.action] += count;
    this.#tell(decision);
    if (decision.action === "allowed") {
      return this.#pass(() =>
        this.#journal.append(
          count === 1 ? { type: "decision", decision } : { type: "repeated", decision, count },
        )
      );
    }
    const key = keyOf(decision);
    const known = this.#repeated.get(key);
    if (known !== undefined) known.count += count;
    else if (this.#repeated.size >= MAX_DISTINCT) this.#omitted += count;
    else {
      this.#repeated.set(key, { decision, count });
      this.#journal.append({ type: "decision", decision });
    }
  }

  /** Takes a request to the model. */
  addModelRequest(decision: GatewayDecision): void {
    if (this.#summary === undefined) this.#pass(() => this.#journal.append({ type: "model", decision }));
  }

  /** Completes the journal and gives what came of it; nothing is taken afterwards. */
  close(): NetworkSummary {
    if (this.#summary !== undefined) return this.#summary;
    using journal = this.#journal;
    const repeated = [...this.#repeated.values()];
    for (const { decision, count } of repeated) {
      if (count > 1) journal.append({ type: "repeated", decision, count });
    }
    if (this.#omitted > 0) journal.append({ type: "omitted", count: this.#omitted });
    const denials = repeated.filter(({ decision }) => decision.action === "denied").slice(
      0,
      MAX_SUMMARY_DENIALS,
    );
    this.#summary = {
      mode: this.#policy.mode,
      policySha256: this.#policy.digest,
      ...this.#counts,
      denials: denials.map(({ decision, count }) => ({ ...decision, count })),
      journal: journal.end,
    };
    return this.#summary;
  }

  #pass(write: () => void): void {
    this.#passedLines += 1;
    if (this.#passedLines <= MAX_PASSED_LINES) write();
    else this.#omitted += 1;
  }

  #tell(decision: NetworkDecision): void {
    const key = keyOf(decision);
    if (this.#told.has(key) || this.#told.size >= MAX_TOLD) return;
    this.#told.add(key);
    this.#onFirst(decision);
  }
}

function keyOf({ action, protocol, host, port, reason }: NetworkDecision): string {
  return [action, protocol, host, port, reason].join(" ");
}
