import assert from "node:assert/strict";
import { AGENT_NAMES, findAgent } from "../../src/session/agents.ts";

Deno.test("every folder of agent-images with an agent.ts is an agent, under the folder's name", () => {
  const folder = new URL("../../agent-images/", import.meta.url);
  const folders = Array.from(Deno.readDirSync(folder)).filter(({ isDirectory }) => isDirectory);
  assert.deepEqual(AGENT_NAMES, folders.map(({ name }) => name).sort());
  for (const name of AGENT_NAMES) assert.equal(findAgent(name)?.name, name);
  assert.equal(findAgent("../codex"), undefined);
});
