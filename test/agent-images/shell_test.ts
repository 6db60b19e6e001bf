import assert from "node:assert/strict";
import { spec } from "../../agent-images/shell/agent.ts";

Deno.test("the shell's command is its prompt, whatever that begins with", () => {
  const { argv } = spec.command({ prompt: "--help", gatewayUrl: "http://g", timeoutMs: 1 });
  assert.deepEqual(argv, ["bash", "-lc", "--", "--help"]);
  assert.equal(spec.model, undefined);
});

Deno.test("the shell's command runs here as it does in a guest", async () => {
  const { argv, env } = spec.command({
    prompt: '-n() { echo "$1"; }; -n "a b"; exit 3',
    gatewayUrl: "",
    timeoutMs: 1,
  });
  const [program = "", ...args] = argv;
  const { code, stdout } = await new Deno.Command(program, { args, env: { ...env }, clearEnv: true })
    .output();
  assert.deepEqual([code, new TextDecoder().decode(stdout)], [3, "a b\n"]);
});

Deno.test("lines that a shell's command prints are messages, and exit code 0 is its turn completed", () => {
  const parser = spec.newParser();
  const lines = ["one", "", '{"type":"done"}', "  two"];
  assert.deepEqual(lines.flatMap((line) => parser.line(line)), [
    { type: "message", text: "one" },
    { type: "message", text: '{"type":"done"}' },
    { type: "message", text: "  two" },
  ]);
  assert.deepEqual(parser.end(0), [{ type: "done" }]);
  assert.deepEqual(spec.newParser().end(2), []);
  assert.deepEqual(spec.newParser().end(null), []);
});
