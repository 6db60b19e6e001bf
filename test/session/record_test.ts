import assert from "node:assert/strict";
import { isAlive, ownId, releaseOwn, sweepOwners } from "../../src/session/owner.ts";
import { newSessionId, sessionsFolder, sweepStale, writeRecord } from "../../src/session/record.ts";

async function withState(use: (stateDir: string) => Promise<void>): Promise<void> {
  const stateDir = await Deno.makeTempDir();
  try {
    await use(stateDir);
  } finally {
    releaseOwn(stateDir);
    await Deno.remove(stateDir, { recursive: true });
  }
}

/** Writes a record as a process would that is gone by now. */
async function writeDeadRecord(stateDir: string): Promise<string> {
  const id = newSessionId();
  const { folder, record } = await writeRecord(stateDir, id);
  await Deno.writeTextFile(
    `${folder}/record.json`,
    JSON.stringify({ ...record, owner: crypto.randomUUID() }),
  );
  return id;
}

Deno.test("ownId() names an owner that lives until it is released", async () => {
  await withState((stateDir) => {
    const id = ownId(stateDir);
    assert.equal(ownId(stateDir), id);
    assert.equal(isAlive(stateDir, id), true);
    assert.equal(isAlive(stateDir, crypto.randomUUID()), false);
    assert.equal(isAlive(stateDir, "../../etc/passwd"), false);
    sweepOwners(stateDir);
    assert.equal(isAlive(stateDir, id), true);
    releaseOwn(stateDir);
    assert.equal(isAlive(stateDir, id), false);
    return Promise.resolve();
  });
});

Deno.test("an owner is gone once its process was killed", async () => {
  await withState(async (stateDir) => {
    const module = new URL("../../src/session/owner.ts", import.meta.url).href;
    const script = `import { ownId } from ${JSON.stringify(module)};
      console.log(ownId(${JSON.stringify(stateDir)})); setInterval(() => {}, 1000);`;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", script],
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    const id = new TextDecoder().decode((await reader.read()).value).trim();
    assert.equal(isAlive(stateDir, id), true);
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    assert.equal(isAlive(stateDir, id), false);
  });
});

Deno.test("sweepStale() removes sessions of dead owners and keeps those of living ones", async () => {
  await withState(async (stateDir) => {
    const mine = newSessionId();
    await writeRecord(stateDir, mine);
    const dead = await writeDeadRecord(stateDir);
    assert.deepEqual(await sweepStale(stateDir), [dead]);
    const left = Array.from(Deno.readDirSync(sessionsFolder(stateDir)), (entry) => entry.name);
    assert.deepEqual(left, [mine]);
  });
});

Deno.test("sweepStale() removes a damaged or missing record, and what a dead process had begun to make", async () => {
  await withState(async (stateDir) => {
    const [damaged, nearlyGone, begun] = [newSessionId(), newSessionId(), newSessionId()];
    const { folder } = await writeRecord(stateDir, damaged);
    await Deno.writeTextFile(`${folder}/record.json`, "{");
    const sessions = sessionsFolder(stateDir);
    await Deno.mkdir(`${sessions}/${nearlyGone}`);
    const mine = `new-${ownId(stateDir)}-${begun}`;
    await Deno.mkdir(`${sessions}/${mine}`);
    await Deno.mkdir(`${sessions}/new-${crypto.randomUUID()}-${begun}`);
    await Deno.mkdir(`${sessions}/not a session!`);
    assert.deepEqual((await sweepStale(stateDir)).sort(), [damaged, nearlyGone].sort());
    const left = Array.from(Deno.readDirSync(sessions), (entry) => entry.name).sort();
    assert.deepEqual(left, [mine, "not a session!"]);
  });
});

Deno.test("sweepStale() gives nothing where there has been no session", async () => {
  await withState(async (stateDir) => assert.deepEqual(await sweepStale(stateDir), []));
});
