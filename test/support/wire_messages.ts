/**
 * Messages as clients send them: DNS queries and TLS ClientHellos, well-formed unless the test asks for else.
 *
 * @module
 */

function uint16(value: number): number[] {
  return [(value >> 8) & 255, value & 255];
}

function characters(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0));
}

/** A query for one name, as stub resolvers send it. */
export function dnsQuery(name: string, type: number): Uint8Array<ArrayBuffer> {
  const labels = name.split(".").flatMap((label) => [label.length, ...characters(label)]);
  return Uint8Array.from([
    ...[0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0],
    ...[...labels, 0, ...uint16(type), 0, 1],
  ]);
}

/** An extension of a ClientHello. */
export interface HelloExtension {
  readonly type: number;
  readonly content: readonly number[];
}

/** The `server_name` extension. */
export function serverName(name: string): HelloExtension {
  const entry = [0, ...uint16(name.length), ...characters(name)];
  return { type: 0, content: [...uint16(entry.length), ...entry] };
}

/** A ClientHello in one record, or in records of `recordBytes`. */
export function clientHello(
  extensions: readonly HelloExtension[],
  recordBytes = 16384,
): Uint8Array<ArrayBuffer> {
  const encoded = extensions.flatMap(({ type, content }) => [
    ...uint16(type),
    ...uint16(content.length),
    ...content,
  ]);
  const body = [
    ...[3, 3, ...Array<number>(32).fill(7)],
    ...[0], // session id
    ...[0, 2, 0x13, 0x01], // cipher suites
    ...[1, 0], // compression
    ...uint16(encoded.length),
    ...encoded,
  ];
  const message = [1, 0, ...uint16(body.length), ...body];
  const records: number[] = [];
  for (let at = 0; at < message.length; at += recordBytes) {
    const part = message.slice(at, at + recordBytes);
    records.push(22, 3, 1, ...uint16(part.length), ...part);
  }
  return Uint8Array.from(records);
}

/** Bytes as a shell's `printf` takes them. */
export function printfText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
}
