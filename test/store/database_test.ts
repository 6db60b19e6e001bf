import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { DatabaseError, inTransaction, openDatabase } from "../../src/store/database.ts";

async function withFile(use: (path: string) => void): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    use(`${folder}/db`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a database of a newer Paddock is refused and stays as it is", async () => {
  await withFile((path) => {
    openDatabase(path).close();
    const newer = new DatabaseSync(path);
    newer.exec("PRAGMA user_version = 1000");
    newer.close();
    assert.throws(() => openDatabase(path), DatabaseError);
    const after = new DatabaseSync(path);
    assert.equal(after.prepare("PRAGMA user_version").get()?.user_version, 1000);
    after.close();
  });
});

Deno.test("a transaction that throws leaves nothing behind", async () => {
  await withFile((path) => {
    const database = openDatabase(path);
    assert.throws(() =>
      inTransaction(database, () => {
        database.exec("INSERT INTO uploads (id, owner, created_at) VALUES ('a', 'b', 'c')");
        throw new Error("no");
      }), /no/);
    assert.equal(database.prepare("SELECT count(*) AS n FROM uploads").get()?.n, 0);
    database.close();
  });
});

Deno.test("a file that is no database is refused", async () => {
  await withFile((path) => {
    Deno.writeTextFileSync(path, "this is not a database, it is a text of over sixteen bytes");
    assert.throws(() => openDatabase(path), /not a database/);
  });
});
