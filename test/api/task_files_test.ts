import assert from "node:assert/strict";
import { parseRange } from "../../src/api/serve_file.ts";
import type { TaskRunner } from "../../src/api/task_service.ts";
import { readTar } from "../../src/session/tar_reader.ts";
import { TarFileWriter } from "../../src/session/tar_writer.ts";
import { readFileChunks } from "../../src/session/workspace_scan.ts";
import { endedAs, HeldRuns, withService } from "../support/task_service.ts";

const PATCH = "0123456789";

/** Leaves a patch, and an archive with two files and links. */
const runner: TaskRunner = async ({ folder }) => {
  await Deno.writeTextFile(`${folder}/changes.patch`, PATCH);
  using writer = await TarFileWriter.create(`${folder}/files.tar`);
  const facts = { mode: 0o644, mtime: 0 };
  const bytes = new TextEncoder().encode("hello");
  const content = (): AsyncIterable<Uint8Array> => ReadableStream.from([bytes]);
  await writer.add({ kind: "file", name: "src/a.txt", sizeBytes: bytes.length, ...facts }, content());
  await writer.add({ kind: "file", name: "b c.txt", sizeBytes: bytes.length, ...facts }, content());
  await writer.add({ kind: "hardlink", name: "hard", linkName: "src/a.txt", sizeBytes: 0, ...facts });
  await writer.add({ kind: "symlink", name: "soft", linkName: "/etc/passwd", sizeBytes: 0, ...facts });
  await writer.finish();
  return endedAs("done");
};

Deno.test("ranges are read as RFC 9110 says", () => {
  const cases: [string | undefined, number, unknown][] = [
    [undefined, 10, undefined],
    ["bytes=0-3", 10, { start: 0, end: 3 }],
    ["bytes=8-", 10, { start: 8, end: 9 }],
    ["bytes=8-100", 10, { start: 8, end: 9 }],
    ["bytes=-3", 10, { start: 7, end: 9 }],
    ["bytes=-30", 10, { start: 0, end: 9 }],
    ["bytes=-0", 10, "none"],
    ["bytes=10-", 10, "none"],
    ["bytes=-1", 0, "none"],
    ["bytes=5-2", 10, undefined],
    ["bytes=0-1,3-4", 10, undefined],
    ["lines=0-1", 10, undefined],
    ["bytes=-", 10, undefined],
    ["bytes=99999999999999999999-", 10, undefined],
  ];
  for (const [header, size, expected] of cases) assert.deepEqual(parseRange(header, size), expected, header);
});

Deno.test("a part of a file comes as it was asked for", async () => {
  await withService({ runner }, async ({ submit, over, request }) => {
    const { id } = await submit();
    await over(id);
    const get = async (headers: Record<string, string>): Promise<[number, string, string | null]> => {
      const response = await request("GET", `/v1/tasks/${id}/patch`, { headers });
      return [response.status, await response.text(), response.headers.get("content-range")];
    };
    assert.deepEqual(await get({}), [200, PATCH, null]);
    assert.deepEqual(await get({ range: "bytes=2-4" }), [206, "234", "bytes 2-4/10"]);
    assert.deepEqual(await get({ range: "bytes=-2", "if-range": '"other"' }), [200, PATCH, null]);
    const [status, , range] = await get({ range: "bytes=10-" });
    assert.deepEqual([status, range], [416, "bytes */10"]);
  });
});

Deno.test("a changed file is found by its path, and nothing else is", async () => {
  await withService({ runner }, async ({ submit, over, request }) => {
    const { id } = await submit();
    await over(id);
    const get = async (path: string): Promise<[number, string]> => {
      const response = await request("GET", `/v1/tasks/${id}/files/${path}`);
      return [response.status, await response.text()];
    };
    assert.deepEqual(await get("src/a.txt"), [200, "hello"]);
    assert.deepEqual(await get("b%20c.txt"), [200, "hello"]);
    assert.deepEqual(await get("hard"), [200, "hello"]);
    for (
      const path of [
        "soft",
        "nothing",
        "src",
        "%2e%2e/%2e%2e/paddock.sqlite",
        "..%2fchanges.patch",
        "%2fetc%2fpasswd",
        "src%00a.txt",
        "src//a.txt",
      ]
    ) assert.equal((await get(path))[0], 404, path);
    assert.equal((await request("GET", `/v1/tasks/${id}/files`)).status, 200);
  });
});

Deno.test("files inside a submission are the workspace; a path that leads out of it is refused", async () => {
  const seen: [string, number, string][] = [];
  const look: TaskRunner = async ({ workspaceTar }) => {
    for await (const { name, mode, content } of readTar(readFileChunks(workspaceTar ?? ""))) {
      seen.push([name, mode, await new Response(ReadableStream.from(content)).text()]);
    }
    return endedAs("done");
  };
  await withService({ runner: look }, async ({ submit, over, service, request }) => {
    const long = `${"d".repeat(90)}/${"f".repeat(90)}`;
    const files = { "a.txt": "hi", "bin/run": { base64: "AAE=", mode: "755" as const }, [long]: "" };
    await over((await submit({ files })).id);
    assert.deepEqual(seen, [["a.txt", 0o644, "hi"], ["bin/run", 0o755, "\0\x01"], [long, 0o644, ""]]);
    // It went with its task
    while (service.store.uploads.all().length > 0) await new Promise((resolve) => setTimeout(resolve, 2));
    for (const path of ["../x", "/etc/x", "a/../../x", "a//b", "./a", ".git/config", "a\0b", "a/"]) {
      const body = { agent: "shell", prompt: "x", files: { [path]: "x" } };
      assert.equal((await request("POST", "/v1/tasks", { body })).status, 400, path);
    }
    assert.deepEqual(service.store.uploads.all(), []);
  });
});

Deno.test("a list comes in pages, filtered by state, agent and labels", async () => {
  await withService({ runner }, async ({ submit, over, request }) => {
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) ids.push((await submit({ labels: { n: `${n % 2}` } })).id);
    for (const id of ids) await over(id);
    const list = async (query: string): Promise<{ tasks: { id: string }[]; nextCursor: string | null }> => {
      const response = await request("GET", `/v1/tasks?${query}`);
      assert.equal(response.status, 200, await response.clone().text());
      return await response.json();
    };
    const found: string[] = [];
    let cursor: string | null = "";
    for (let page = 0; cursor !== null; page++) {
      assert.ok(page < 3);
      const next = await list(`limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`);
      found.push(...next.tasks.map(({ id }) => id));
      cursor = next.nextCursor;
    }
    assert.deepEqual(found, ids.toReversed());
    const wanted = (await list("label=n:1&state=succeeded,failed&agent=shell")).tasks;
    assert.deepEqual(wanted.map(({ id }) => id), [ids[3], ids[1]]);
    assert.deepEqual((await list("state=queued")).tasks, []);
    for (
      const query of ["state=none", "label=x", "cursor=9", "limit=0", "limit=x", "cursor=t99999999999999999"]
    ) {
      assert.equal((await request("GET", `/v1/tasks?${query}`)).status, 400, query);
    }
  });
});

Deno.test("a long poll waits for the next event, and no longer than it was told", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run }, async ({ submit, request }) => {
    const { id } = await submit();
    while (runs.runningCount === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    const poll = async (
      after: number,
      wait: number,
    ): Promise<{ events: { seq: number }[]; lastSeq: number }> =>
      await (await request("GET", `/v1/tasks/${id}/events?after=${after}&wait=${wait}`)).json();
    const { lastSeq } = await poll(0, 0);
    assert.equal(lastSeq, 4);
    assert.deepEqual(await poll(lastSeq, 0), { events: [], lastSeq });
    const next = poll(lastSeq, 30);
    runs.end();
    assert.deepEqual((await next).events.map(({ seq }) => seq), [5, 6]);
    assert.deepEqual((await poll(6, 30)).events, []);
  });
});

Deno.test("a bundle has all results, and equal results make equal ones", async () => {
  await withService({ runner }, async ({ submit, over, request }) => {
    const { id } = await submit();
    await over(id);
    const bytes = await (await request("GET", `/v1/tasks/${id}/bundle`)).bytes();
    const members: [string, string][] = [];
    for await (const { name, kind, linkName, content } of readTar(ReadableStream.from([bytes]))) {
      const text = await new Response(ReadableStream.from(content)).text();
      members.push([name, kind === "file" ? text : linkName]);
    }
    const document = JSON.parse(members[0]?.[1] ?? "") as { outcome: string; agent: string };
    assert.deepEqual([document.outcome, document.agent], ["done", "shell"]);
    assert.deepEqual(members.slice(1), [
      ["changes.patch", PATCH],
      ["files/src/a.txt", "hello"],
      ["files/b c.txt", "hello"],
      ["files/hard", "files/src/a.txt"],
      ["files/soft", "/etc/passwd"],
    ]);
    const part = await request("GET", `/v1/tasks/${id}/bundle`, { headers: { range: "bytes=512-1023" } });
    assert.deepEqual([part.status, await part.bytes()], [206, bytes.slice(512, 1024)]);
  });
});

Deno.test("a task that was cancelled before its turn has a bundle, too", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run, limits: { maxVms: 1, maxMemoryMib: 9999 } }, async (setup) => {
    await setup.submit();
    const { id } = await setup.submit();
    await setup.request("POST", `/v1/tasks/${id}/cancel`);
    const response = await setup.request("GET", `/v1/tasks/${id}/bundle`);
    assert.equal(response.status, 200);
    const [first] = await Array.fromAsync(readTar(ReadableStream.from([await response.bytes()])));
    assert.equal(first?.name, "result.json");
    assert.equal((await setup.request("GET", `/v1/tasks/${id}/patch`)).status, 404);
  });
});
