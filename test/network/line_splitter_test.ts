import assert from "node:assert/strict";
import { LineSplitter, LineTooLongError } from "../../src/network/line_splitter.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

Deno.test("LineSplitter.push() gives lines whatever pieces they come in", () => {
  const text = bytes("one\n\nthree é\nlast");
  for (const size of [1, 2, 3, 100]) {
    const splitter = new LineSplitter(100, "throw");
    const lines: string[] = [];
    for (let at = 0; at < text.length; at += size) lines.push(...splitter.push(text.slice(at, at + size)));
    assert.deepEqual([...lines, ...splitter.flush()], ["one", "", "three é", "last"]);
  }
});

Deno.test("LineSplitter.push() throws on a line that is too long, even one without an end", () => {
  const splitter = new LineSplitter(10, "throw");
  assert.throws(() => {
    for (;;) splitter.push(bytes("xxxx"));
  }, LineTooLongError);
});

Deno.test("LineSplitter.push() drops a long line, counts it, and goes on", () => {
  const splitter = new LineSplitter(5, "drop");
  assert.deepEqual(splitter.push(bytes("abc\ntoo long to keep")), ["abc"]);
  assert.deepEqual(splitter.push(bytes(" and longer\nok\n12345\n123456\n")), ["ok", "12345"]);
  assert.equal(splitter.droppedCount, 2);
  assert.deepEqual(splitter.flush(), []);
});
