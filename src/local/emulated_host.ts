/**
 * The emulated host, for the command line.
 *
 * @module
 */

export {
  type EmulatedHostStatus,
  emulatedHostStatus,
  execInEmulatedHost,
  startEmulatedHost,
  stopEmulatedHost,
} from "../emulated/host.ts";
