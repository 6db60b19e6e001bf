/**
 * Commands of a network device's control queue (virtio 1.2 §5.1.6.5): a class and a command of a byte each, what belongs
 * to the command, and at the end a byte for the answer.
 *
 * The guest controls all of it, and its length: what is not exactly a command that is known is refused.
 *
 * @module
 */

import type { ChainReader } from "../src/virtio/chain_reader.ts";

// linux/virtio_net.h
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;
export const VIRTIO_NET_CTRL_MQ = 4;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;

/** `struct virtio_net_ctrl` up to its command-specific-data, and `struct virtio_net_ctrl_mq` */
const HEADER_BYTES = 2;
const MQ_BYTES = 2;

/** What the driver asks for. */
export type NetCommand =
  /** use the first `pairCount` queue pairs (§5.1.6.5.5): any number of 16 bits */
  | { readonly kind: "set_pairs"; readonly pairCount: number }
  | { readonly kind: "unsupported" };

/** Reads a command. */
export function parseNetCommand(reader: ChainReader): NetCommand {
  const header = reader.copy(HEADER_BYTES);
  const isPairsSet = header?.[0] === VIRTIO_NET_CTRL_MQ && header[1] === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
  if (!isPairsSet || reader.availableBytes !== MQ_BYTES) return { kind: "unsupported" };
  const [low = 0, high = 0] = reader.copy(MQ_BYTES) ?? [];
  return { kind: "set_pairs", pairCount: low + high * 256 };
}
