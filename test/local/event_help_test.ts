import assert from "node:assert/strict";
import { describeEvents } from "../../agent-images/agent_event.ts";
import { eventHelp, eventSchemaText, eventTable } from "../../src/local/event_help.ts";

Deno.test("the README's table of events is the one that their definitions give", async () => {
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const shown = /<!-- sandbox help events -->\n\n([\s\S]*?)\n\n<!-- end of the events -->/.exec(readme)?.[1];
  assert.equal(shown, eventTable());
});

Deno.test("every event and every field is explained, on the terminal and in the JSON Schema", () => {
  const help = eventHelp();
  assert.deepEqual(describeEvents().map(({ type }) => type).sort(), [
    "done",
    "error",
    "file_change",
    "message",
    "reasoning",
    "tool_call",
    "tool_result",
    "usage",
  ]);
  for (const { type, about, fields } of describeEvents()) {
    assert.ok(about.length > 10 && help.includes(`${type}: ${about}`), type);
    for (const field of fields) assert.ok(field.about.length > 3 && field.type !== "any", field.name);
  }
  assert.equal(JSON.parse(eventSchemaText()).oneOf.length, 8);
});
