/**
 * The documentation of the agents' events, made from their definitions.
 *
 * @module
 */

import { describeEvents, EVENT_VERSION, eventJsonSchema } from "../../agent-images/agent_event.ts";

/** The events for the terminal. */
export function eventHelp(): string {
  const lines = [
    `Each line of transcript.jsonl is one event of the agent, in version ${EVENT_VERSION} of this form. "sandbox run --json" prints`,
    `the same as {"type":"agent","event":…} among the events of the task. Each has "v" (the version), "at" (time, UTC)`,
    `and "type"; fields with a "?" may be absent.`,
  ];
  for (const { type, about, fields } of describeEvents()) {
    lines.push("", `  ${type}: ${about}`);
    for (const field of fields) {
      const name = field.isOptional ? `${field.name}?` : field.name;
      lines.push(`      ${name.padEnd(14)} ${field.type}: ${field.about}`);
    }
  }
  return lines.join("\n");
}

/** The events as a table in Markdown: the one in the README. */
export function eventTable(): string {
  const rows = describeEvents().map(({ type, about, fields }) => {
    const names = fields.map(({ name, isOptional }) => `\`${name}${isOptional ? "?" : ""}\``);
    return `| \`${type}\` | ${about} | ${names.join(", ")} |`;
  });
  return ["| type | means | fields |", "|---|---|---|", ...rows].join("\n");
}

/** The events as a JSON Schema. */
export function eventSchemaText(): string {
  return JSON.stringify(eventJsonSchema(), null, 2);
}
