/**
 * Checks a VM's configuration before anything is made from it.
 *
 * @module
 */

import type { RateLimitConfig, VmConfig } from "../vmm/protocol.ts";
import { MAX_CMDLINE_BYTES, MAX_CPUS, MAX_VIRTIO_DEVICES } from "./layout.ts";

/** The caller asked for a machine that cannot be. */
export class ConfigError extends RangeError {
  override readonly name = "ConfigError";
  /** which part of the configuration */
  readonly field: string;

  constructor(field: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.field = field;
  }
}

const MIN_MEMORY_MIB = 16;
const MAX_MEMORY_MIB = 1024 * 1024;
/** A day; timers take no more than 2^31 ms. */
const MAX_GRACE_MS = 24 * 3600 * 1000;

/** A TAP name: an interface name is at most 15 bytes (linux/if.h) and has no slash or space. */
const TAP_NAME = /^[^\s/]{1,15}$/;

/** virtio 1.2 §5.2.6: 20 bytes */
const SERIAL = /^[\x21-\x7e]{1,20}$/;

/** Devices beside the disks: rng always, net, vsock, balloon and console as asked for. */
export function deviceCount(config: VmConfig): number {
  const virtioConsole = config.console === "virtio" || undefined;
  const asked = [config.net, config.vsock, config.balloon || undefined, virtioConsole];
  return config.disks.length + 1 + asked.filter((device) => device !== undefined).length;
}

/**
 * Checks ranges and counts; whether files exist shows when they are opened.
 *
 * @throws {ConfigError} naming the field
 */
export function checkConfig(config: VmConfig): void {
  requireInteger("memoryMib", config.memoryMib, MIN_MEMORY_MIB, MAX_MEMORY_MIB);
  requireInteger("cpus", config.cpus, 1, MAX_CPUS);
  if (config.graceMs !== undefined) requireInteger("graceMs", config.graceMs, 0, MAX_GRACE_MS);
  if (config.cmdline.length > MAX_CMDLINE_BYTES / 2) {
    throw new ConfigError(
      "cmdline",
      `Cannot pass a command line of ${config.cmdline.length} characters: 1024 fit`,
    );
  }
  if (/[^\x20-\x7e]/.test(config.cmdline)) {
    throw new ConfigError("cmdline", "Cannot pass a command line that is not ASCII");
  }
  if (deviceCount(config) > MAX_VIRTIO_DEVICES) {
    throw new ConfigError(
      "disks",
      `Cannot attach ${config.disks.length} disks: ${MAX_VIRTIO_DEVICES} devices fit`,
    );
  }
  config.disks.forEach(({ serial, rateLimit }, index) => {
    if (serial !== undefined && !SERIAL.test(serial)) {
      throw new ConfigError(
        `disks[${index}].serial`,
        `Cannot use "${serial}" as a serial number: it has 1 to 20 characters of ASCII`,
      );
    }
    if (rateLimit !== undefined) checkRateLimit(`disks[${index}].rateLimit`, rateLimit);
  });
  if (config.net !== undefined && !TAP_NAME.test(config.net.tap)) {
    throw new ConfigError("net.tap", `Cannot use "${config.net.tap}" as the name of a TAP device`);
  }
  if (config.console !== undefined && !["serial", "virtio"].includes(config.console)) {
    throw new ConfigError("console", `Cannot use "${config.console}" as a console: it is serial or virtio`);
  }
  // RFC 791: every IPv4 link takes packets of 68 bytes
  if (config.net?.mtu !== undefined) requireInteger("net.mtu", config.net.mtu, 68, 65_535);
  if (config.net?.rateLimit !== undefined) checkRateLimit("net.rateLimit", config.net.rateLimit);
  // Context ids 0 to 2 are reserved, 2^32 - 1 means any (virtio 1.2 §5.10.4).
  if (config.vsock !== undefined) requireInteger("vsock.cid", config.vsock.cid, 3, 2 ** 32 - 2);
}

function checkRateLimit(field: string, limit: RateLimitConfig): void {
  for (const [name, value] of Object.entries(limit)) {
    requireInteger(`${field}.${name}`, value, 1, Number.MAX_SAFE_INTEGER);
  }
}

function requireInteger(field: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new ConfigError(field, `Cannot use ${field} ${value}: it is a whole number from ${min} to ${max}`);
}

/** The six bytes of a MAC address. */
export function parseMac(mac: string): Uint8Array {
  const parts = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac) ? mac.split(":") : undefined;
  if (parts === undefined) throw new ConfigError("net.mac", `Cannot read "${mac}" as a MAC address`);
  return Uint8Array.from(parts, (part) => Number.parseInt(part, 16));
}
