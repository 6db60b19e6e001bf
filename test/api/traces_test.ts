import assert from "node:assert/strict";

const PROGRAM = `
import { TaskTraces } from "${new URL("../../src/api/traces.ts", import.meta.url)}";
import { withService, endedAs } from "${new URL("../support/task_service.ts", import.meta.url)}";
const runner = ({ onEvent }) => {
  onEvent({ type: "phase", phase: "prepare", ms: 5 });
  onEvent({ type: "phase", phase: "boot", ms: 7 });
  return Promise.resolve(endedAs("timeout"));
};
await withService({ runner }, async ({ service, submit, over }) => {
  service.queue.listen(new TaskTraces(service.store));
  await submit({ prompt: "one" }).then(({ id }) => over(id));
});
`;

interface ReceivedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly status?: { readonly code?: number };
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue?: string } }[];
}

interface Export {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly ReceivedSpan[] }[];
  }[];
}

Deno.test("a task is a trace, its phases are spans of it, and a collector is told", async () => {
  const spans: ReceivedSpan[] = [];
  await using collector = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = await request.json() as Partial<Export>;
      for (const { scopeSpans } of body.resourceSpans ?? []) {
        spans.push(
          ...scopeSpans.flatMap(({ spans }) => spans),
        );
      }
      return Response.json({});
    },
  );
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--no-lock", "--cached-only", PROGRAM],
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
      NO_PROXY: "127.0.0.1",
    },
    cwd: new URL("../..", import.meta.url).pathname,
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const task = spans.find(({ name }) => name === "task");
  assert.ok(task !== undefined, JSON.stringify(spans));
  const outcome = task.attributes.find(({ key }) => key === "paddock.outcome")?.value.stringValue;
  assert.deepEqual([outcome, task.status?.code], ["timeout", 2]);
  const phases = spans.filter(({ parentSpanId }) => parentSpanId === task.spanId);
  assert.deepEqual(phases.map(({ name }) => name).toSorted(), ["task boot", "task prepare"]);
  assert.ok(phases.every(({ traceId }) => traceId === task.traceId));
});
