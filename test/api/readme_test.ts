import assert from "node:assert/strict";
import { LOCAL_PRINCIPAL } from "../../src/api/principal.ts";
import type { TaskRunner } from "../../src/api/task_service.ts";
import { TarFileWriter } from "../../src/session/tar_writer.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";
import { withFolder } from "../support/sandbox_cli.ts";
import { type TestService, withService } from "../support/service.ts";
import { fakeMaker } from "../support/session_maker.ts";
import { endedAs } from "../support/task_service.ts";

const README = new URL("../../README.md", import.meta.url);

/** The curl lines of a section, without what stands behind them. */
function curlLines(section: string): string[] {
  const text = Deno.readTextFileSync(README);
  const [, body = ""] = text.split(`\n## ${section}\n`);
  const lines = body.split("\n## ")[0]?.split("\n") ?? [];
  return lines.filter((line) => line.startsWith("    curl ")).map((line) =>
    line.trim().replace(/ +# .*$/, "")
  );
}

const runner: TaskRunner = async ({ folder }) => {
  await Deno.writeTextFile(`${folder}/changes.patch`, "the patch");
  using writer = await TarFileWriter.create(`${folder}/files.tar`);
  const content = ReadableStream.from([new TextEncoder().encode("7")]);
  await writer.add({ kind: "file", name: "out.txt", mode: 0o644, mtime: 0, sizeBytes: 1 }, content);
  await writer.finish();
  return endedAs("done");
};

/** Runs lines one after the other; `ID` becomes the last id that one of them made. */
async function runLines(
  lines: readonly string[],
  { server, token, service }: TestService,
  { folder, adapt }: { readonly folder: string; readonly adapt: (line: string) => string },
): Promise<void> {
  let id = "";
  const text = token();
  for (const line of lines) {
    const url = server.url;
    const script = adapt(line).replaceAll("http://127.0.0.1:8080", url).replaceAll(/\bID\b/g, id);
    const { code, stdout, stderr } = await new Deno.Command("sh", {
      args: ["-c", script.replace(/^curl /, "curl --fail-with-body -sS ")],
      cwd: folder,
      env: {
        T: `${url}/v1/tasks`,
        S: `${url}/v1/sessions`,
        A: `authorization: Bearer ${text}`,
        NO_PROXY: "127.0.0.1",
      },
    }).output();
    const output = new TextDecoder().decode(stdout);
    assert.equal(code, 0, `${line}: ${output} ${new TextDecoder().decode(stderr)}`);
    const made = /^\{"id":"([a-z0-9]+)"/.exec(output)?.[1];
    if (made !== undefined && line.includes("--json")) id = made;
    while (service.queue.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    while ((await service.sessions.list(LOCAL_PRINCIPAL)).some(({ state }) => state === "starting")) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

Deno.test("each line about tasks in the README works", async () => {
  const lines = curlLines("Tasks over the API");
  assert.ok(lines.length >= 12, lines.join("\n"));
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/workspace.tar`, "");
    const fetchRepo = (_source: unknown, path: string): Promise<undefined> =>
      Deno.writeTextFile(path, "").then(() => undefined);
    await withService({ runner, fetchRepo }, async (setup) => {
      await runLines(lines, setup, { folder, adapt: (line) => line });
    });
    assert.equal(await Deno.readTextFile(`${folder}/changes.patch`), "the patch");
    assert.equal((await Deno.stat(`${folder}/bundle.tar`)).size, 512);
  });
});

testWithNativeGuest(
  "each line about sessions in the README works",
  () =>
    withNativeGuest(async (guest, guestFolder) => {
      const lines = curlLines("Sessions over the API");
      assert.ok(lines.length >= 8, lines.join("\n"));
      await withFolder(async (folder) => {
        await Deno.writeTextFile(`${folder}/notes.txt`, "notes");
        await Deno.mkdir(`${guestFolder}/workspace`, { recursive: true });
        await using web = Deno.serve(
          { hostname: "127.0.0.1", port: 0, onListen: () => {} },
          () => new Response("hi"),
        );
        const { make, prepare } = fakeMaker(guest);
        await withService({ runner, makeSession: make, prepare }, async (setup) => {
          await runLines(lines, setup, {
            folder,
            // This guest has one user, another folder, and a server on another port
            adapt: (line) =>
              line.replace('"timeoutMs"', '"user": "root", "cwd": "/", "timeoutMs"')
                .replaceAll("/workspace", `${guestFolder}/workspace`)
                .replace("/ports/3000/", `/ports/${web.addr.port}/`),
          });
        });
      });
    }),
);
