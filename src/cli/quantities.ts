/**
 * Durations and sizes as people type them.
 *
 * @module
 */

import { UsageError } from "./usage_error.ts";

const DAY_MS = 24 * 3_600_000;
const RATE_UNITS: Readonly<Record<string, number>> = { s: 60, min: 1, h: 1 / 60 };
const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `90`, `90s`, `15m`, `2h`, `500ms` in `ms`; a bare number is seconds. */
export function parseDurationMs(flag: string, text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?$/.exec(text);
  const ms = match === null
    ? NaN
    : Math.round(Number(match[1]) * (DURATION_UNITS_MS[match[2] ?? "s"] ?? NaN));
  if (Number.isSafeInteger(ms) && ms > 0) return ms;
  throw new UsageError(`${flag} must be a duration such as 90s, 15m or 2h: received "${text}"`);
}

/** The same, and `30d`, in `ms`. */
export function parseLifetimeMs(flag: string, text: string): number {
  const days = Number(/^([0-9]{1,5})d$/.exec(text)?.[1] ?? 0);
  if (days > 0) return days * DAY_MS;
  try {
    return parseDurationMs(flag, text);
  } catch {
    throw new UsageError(`${flag} must be a time such as 30d, 12h or never: received "${text}"`);
  }
}

/** `60/min`, `10/s`; a bare number is a minute's. */
export function parseRatePerMinute(flag: string, text: string): number {
  const [, count = "", unit = "min"] = /^([0-9]{1,9})(?:\/(s|min|h))?$/.exec(text) ?? [];
  const rate = Math.floor(Number(count) * (RATE_UNITS[unit] ?? NaN));
  if (rate > 0) return rate;
  throw new UsageError(`${flag} must be requests a time such as 60/min or 5/s: received "${text}"`);
}

/** `512M`, `4G` in `MiB`; a bare number is MiB. */
export function parseSizeMib(flag: string, text: string): number {
  const match = /^([0-9]+)([MmGg])?(?:i?[Bb])?$/.exec(text);
  const mib = match === null ? NaN : Number(match[1]) * (match[2]?.toUpperCase() === "G" ? 1024 : 1);
  if (Number.isSafeInteger(mib) && mib > 0) return mib;
  throw new UsageError(`${flag} must be a size such as 512M or 4G: received "${text}"`);
}

const BYTE_UNITS: Readonly<Record<string, number>> = { "": 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** `4M`, `512K/s`, `1G` in bytes a second; a bare number is bytes. */
export function parseByteRate(flag: string, text: string): number {
  const match = /^([0-9]+)([KkMmGg]?)(?:i?[Bb])?(?:\/s)?$/.exec(text);
  const rate = match === null ? NaN : Number(match[1]) * (BYTE_UNITS[match[2]?.toUpperCase() ?? ""] ?? NaN);
  if (Number.isSafeInteger(rate) && rate > 0) return rate;
  throw new UsageError(`${flag} must be bytes a second, such as 4M or 512K: received "${text}"`);
}

/** A whole number from 1. */
export function parseCount(flag: string, text: string): number {
  const count = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(count) && count > 0) return count;
  throw new UsageError(`${flag} must be a whole number from 1: received "${text}"`);
}

/** `5`, `0.25` or `$5` in USD. */
export function parseUsd(flag: string, text: string): number {
  const usd = Number(text.replace(/^\$/, ""));
  if (/^\$?[0-9]+(\.[0-9]+)?$/.test(text) && usd > 0 && usd <= 1_000_000) return usd;
  throw new UsageError(`${flag} must be an amount of US dollars such as 5 or 0.25: received "${text}"`);
}

/** `HOST:GUEST`, two ports; one port alone stands for both. A host's port 0 is any that is free. */
export function parsePublication(text: string): { readonly hostPort: number; readonly guestPort: number } {
  const [host = "", guest = host, ...rest] = text.split(":");
  const [hostPort, guestPort] = [host, guest].map((port) => /^[0-9]{1,5}$/.test(port) ? Number(port) : NaN);
  if (rest.length === 0 && Number(hostPort) <= 65535 && Number(guestPort) > 0 && Number(guestPort) <= 65535) {
    return { hostPort: Number(hostPort), guestPort: Number(guestPort) };
  }
  throw new UsageError(`A published port must be HOST:GUEST, such as 8080:80: received "${text}"`);
}

/** A duration for people. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round(ms % 60_000 / 1000)} s`;
}

/** A size for people. */
export function formatBytes(byteCount: number): string {
  if (byteCount < 1024) return `${byteCount} B`;
  if (byteCount < 1024 ** 2) return `${(byteCount / 1024).toFixed(1)} KiB`;
  if (byteCount < 1024 ** 3) return `${(byteCount / 1024 ** 2).toFixed(1)} MiB`;
  return `${(byteCount / 1024 ** 3).toFixed(2)} GiB`;
}
