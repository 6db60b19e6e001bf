import assert from "node:assert/strict";
import {
  type ByteSource,
  decodeWords,
  encodeFrame,
  encodeWords,
  FrameReader,
  GuestProtocolError,
  MAX_PAYLOAD_BYTES,
} from "../../src/session/guest_frames.ts";

/** A source that gives its bytes in pieces of a given size. */
function source(bytes: Uint8Array, pieceBytes: number): ByteSource {
  let at = 0;
  return {
    read(buffer): Promise<number | null> {
      if (at >= bytes.length) return Promise.resolve(null);
      const piece = bytes.subarray(at, at + Math.min(pieceBytes, buffer.length));
      buffer.set(piece);
      at += piece.length;
      return Promise.resolve(piece.length);
    },
  };
}

Deno.test("FrameReader.next() reads frames whatever pieces they come in", async () => {
  const payload = crypto.getRandomValues(new Uint8Array(300));
  const bytes = new Uint8Array([
    ...encodeFrame("o", payload),
    ...encodeFrame("D"),
    ...encodeFrame("e", payload),
  ]);
  for (const pieceBytes of [1, 2, 7, 304, 305, 306, 10_000]) {
    const reader = new FrameReader(source(bytes, pieceBytes));
    assert.deepEqual(await reader.next(), { type: "o", payload });
    assert.deepEqual(await reader.next(), { type: "D", payload: new Uint8Array() });
    assert.deepEqual(await reader.next(), { type: "e", payload });
    assert.equal(await reader.next(), undefined);
  }
});

Deno.test("FrameReader.next() takes a payload of exactly the largest size", async () => {
  const payload = new Uint8Array(MAX_PAYLOAD_BYTES).fill(7);
  const frame = await new FrameReader(source(encodeFrame("d", payload), 1000)).next();
  assert.equal(frame?.payload.length, MAX_PAYLOAD_BYTES);
});

Deno.test("FrameReader.next() rejects a frame that claims to be too long", async () => {
  const header = Uint8Array.of(0x6f, 1, 0, 1, 0);
  await assert.rejects(new FrameReader(source(header, 5)).next(), GuestProtocolError);
  const huge = Uint8Array.of(0x6f, 0xff, 0xff, 0xff, 0xff);
  await assert.rejects(new FrameReader(source(huge, 5)).next(), GuestProtocolError);
});

Deno.test("FrameReader.next() rejects a frame that is cut short", async () => {
  await assert.rejects(new FrameReader(source(Uint8Array.of(0x6f, 5), 5)).next(), GuestProtocolError);
  const cut = encodeFrame("o", new Uint8Array(10)).subarray(0, 9);
  await assert.rejects(new FrameReader(source(cut, 5)).next(), GuestProtocolError);
});

Deno.test("FrameReader.next() survives random bytes: frames or an error, never more", async () => {
  for (let round = 0; round < 200; round++) {
    const bytes = crypto.getRandomValues(new Uint8Array(2000));
    const reader = new FrameReader(source(bytes, 97));
    let read = 0;
    try {
      for (let frame = await reader.next(); frame !== undefined; frame = await reader.next()) {
        read += 5 + frame.payload.length;
      }
    } catch (error) {
      assert.ok(error instanceof GuestProtocolError);
    }
    assert.ok(read <= bytes.length);
  }
});

Deno.test("encodeWords() refuses a value that would begin another word", () => {
  assert.throws(() => encodeWords([["arg", "a\0env=X=1"]]), RangeError);
  assert.deepEqual(
    decodeWords(encodeWords([["version", "1"], ["kernel", "a=b"]])),
    new Map([["version", "1"], ["kernel", "a=b"]]),
  );
  assert.throws(() => decodeWords(new TextEncoder().encode("nokey\0")), GuestProtocolError);
});
