import assert from "node:assert/strict";
import type { GuestCommand, GuestProcess } from "../../src/session/guest_client.ts";
import type { Session } from "../../src/session/session.ts";
import { fetchChanges, fetchCommits, saveConsole } from "../../src/session/task_files.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";

/** A guest whose /workspace is a folder of the test's, and whose commands run here. */
function guestAt(folder: string): Session {
  const exec = (command: GuestCommand): Promise<GuestProcess> => {
    const [program = "", ...args] = command.argv.map((word) =>
      word === "/workspace" ? `${folder}/guest` : word
    );
    const child = new Deno.Command(program, {
      args,
      env: { ...command.env },
      clearEnv: true,
      stdout: "piped",
      stderr: "piped",
    })
      .spawn();
    const pump = async (
      stream: ReadableStream<Uint8Array>,
      take: (chunk: Uint8Array) => unknown,
    ): Promise<void> => {
      for await (const chunk of stream) await take(chunk);
    };
    const over = Promise.all([pump(child.stdout, command.onStdout), pump(child.stderr, command.onStderr)]);
    const exit = over.then(() => child.status).then(({ code }) => ({
      exitCode: code,
      signal: null,
      timedOut: false,
    }));
    return Promise.resolve({ exit, close: () => {} } as unknown as GuestProcess);
  };
  async function* get(): AsyncGenerator<Uint8Array> {
    yield* new Deno.Command("tar", { args: ["-C", `${folder}/guest`, "-c", "."], stdout: "piped" }).spawn()
      .stdout;
  }
  const within = <T>(_: number, action: () => Promise<T>): Promise<T> => action();
  const consoleText = "up\r\n\x1b[2Jgone\x07\n";
  return { folder: `${folder}/session`, guest: { exec, get }, within, consoleText } as unknown as Session;
}

/** Packs a repository, lets a script work in the guest's copy, and fetches what comes of it. */
async function fetched(
  script: string,
  use: (folder: string, commits: Awaited<ReturnType<typeof fetchCommits>>) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    await shell(
      `mkdir session task; git init -q -b main guest; cd guest; echo one > a; git add -A; git commit -qm first
       tar -cf ../before.tar .; ${script}`,
      folder,
    );
    const places = { folder: `${folder}/task`, workspaceTar: `${folder}/before.tar` };
    const session = guestAt(folder);
    await fetchChanges(session, places);
    const commits = await fetchCommits(session, places);
    await saveConsole(session, places);
    assert.equal(await shell("ls session", folder), "", "nothing stays in the session's folder");
    await use(folder, commits);
  });
}

Deno.test("a task's files hold the changes, the commits and the console", async () => {
  await fetched("echo two >> a; git commit -qam second; echo new > b", async (folder, commits) => {
    assert.ok(commits !== null && "count" in commits && commits.count === 1);
    const listed = await shell(
      "ls task; tar -tf task/patches.tar; tar -tf task/files.tar | sort; cat task/console.log",
      folder,
    );
    assert.equal(
      listed,
      "changes.patch\ncommits.pack\nconsole.log\nfiles.tar\npatches.tar\nworkspace.tar\n0001-second.patch\na\nb\nup\n[2Jgone\n",
    );
  });
});

Deno.test("an agent that commits nothing, or takes the repository away, made no commits", async () => {
  for (const script of ["echo two >> a", "git reset -q --hard; rm -rf .git", "git checkout -q -b other"]) {
    await fetched(script, (_, commits) => Promise.resolve(assert.equal(commits, null, script)));
  }
});

Deno.test("commits that cannot be taken are a problem of their own, and the changes are there", async () => {
  const script = `echo two >> a; git commit -qam second; rm -rf .git/objects/??`;
  await fetched(script, async (folder, commits) => {
    assert.ok(commits !== null && "problem" in commits, JSON.stringify(commits));
    assert.match(await shell("cat task/changes.patch", folder), /\+two/);
  });
});
