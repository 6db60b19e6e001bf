/**
 * Reads what a VMM process says. The VMM runs a guest that may have broken out of it: its lines are parsed
 * into known events, and anything else is an error.
 *
 * @module
 */

import type { StopReason, VmmEvent, VmTimings } from "../vmm/protocol.ts";

/** The VMM does not keep to the protocol. */
export class VmmProtocolError extends Error {
  override readonly name = "VmmProtocolError";
}

type Json = Record<string, unknown>;

const STOP_REASONS: readonly StopReason[] = ["poweroff", "reset", "killed", "internal_error"];
const FAILURE_CODES = ["config", "kvm", "host", "bug"] as const;
const MAX_TEXT_LENGTH = 2000;

function numberOf(value: unknown): number {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new VmmProtocolError("VMM sent a bad number");
  }
  return value;
}

function textOf(value: unknown): string {
  if (typeof value !== "string") throw new VmmProtocolError("VMM sent a bad text");
  return value;
}

function objectOf(value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new VmmProtocolError("VMM sent a bad object");
  }
  return value as Json;
}

function oneOf<T extends string>(value: unknown, known: readonly T[]): T {
  const found = known.find((word) => word === value);
  if (found === undefined) throw new VmmProtocolError("VMM sent an unknown word");
  return found;
}

function timingsOf(value: unknown): VmTimings {
  const timings = objectOf(value);
  return {
    processStartMs: numberOf(timings.processStartMs),
    kvmReadyMs: numberOf(timings.kvmReadyMs),
    kernelLoadedMs: numberOf(timings.kernelLoadedMs),
    firstInstructionMs: numberOf(timings.firstInstructionMs),
    ...(timings.initMs === undefined ? {} : { initMs: numberOf(timings.initMs) }),
    ...(timings.readyMs === undefined ? {} : { readyMs: numberOf(timings.readyMs) }),
  };
}

function exitsOf(value: unknown): Record<string, number> {
  return Object.fromEntries(Object.entries(objectOf(value)).map(([name, count]) => [name, numberOf(count)]));
}

/** Parses one line. */
export function parseVmmEvent(line: string): VmmEvent {
  let event: Json;
  try {
    event = objectOf(JSON.parse(line));
  } catch (cause) {
    throw new VmmProtocolError("VMM sent a line that is not an event", { cause });
  }
  switch (event.type) {
    case "hello":
      return { type: "hello", pid: numberOf(event.pid) };
    case "started":
      return { type: "started", timings: timingsOf(event.timings) };
    case "booted":
      return { type: "booted", timings: timingsOf(event.timings) };
    case "paused":
      return { type: "paused", pauseMs: numberOf(event.pauseMs) };
    case "resumed":
      return { type: "resumed" };
    case "vsock_refused":
      return { type: "vsock_refused", cid: numberOf(event.cid), port: numberOf(event.port) };
    case "console":
      return { type: "console", data: textOf(event.data) };
    case "stopped":
      return {
        type: "stopped",
        reason: oneOf(event.reason, STOP_REASONS),
        ...(event.detail === undefined ? {} : { detail: textOf(event.detail).slice(0, MAX_TEXT_LENGTH) }),
        exits: exitsOf(event.exits),
      };
    case "failed":
      return {
        type: "failed",
        code: oneOf(event.code, FAILURE_CODES),
        message: textOf(event.message).slice(0, MAX_TEXT_LENGTH),
      };
    default:
      throw new VmmProtocolError("VMM sent an event of an unknown type");
  }
}
