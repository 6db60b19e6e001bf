/**
 * The one SQLite file of a state folder: how it is opened, and how its tables came to be. Several processes may have it
 * open.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";

/**
 * Each makes the tables of version N + 1 out of those of version N. What stands here was run on users' machines: it is
 * added to and never changed.
 */
const MIGRATIONS: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    result TEXT,
    owner TEXT NOT NULL,
    attached INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    ended_at TEXT
  ) STRICT;
  CREATE TABLE IF NOT EXISTS events (
    task_id TEXT NOT NULL REFERENCES tasks(id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (task_id, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    created_at TEXT NOT NULL
  ) STRICT;`,
  `CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT,
    rate_per_minute INTEGER,
    max_active INTEGER
  ) STRICT;`,
  `ALTER TABLE tasks RENAME COLUMN status TO state;
  UPDATE tasks SET state = CASE
    WHEN state = 'running' THEN 'running'
    WHEN json_extract(result, '$.outcome') = 'done' THEN 'succeeded'
    WHEN json_extract(result, '$.outcome') = 'timeout' THEN 'timed_out'
    WHEN json_extract(result, '$.outcome') IN ('cancelled', 'budget_exceeded') THEN json_extract(result, '$.outcome')
    ELSE 'failed' END;
  ALTER TABLE tasks ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
  UPDATE tasks SET position = rowid;
  ALTER TABLE tasks ADD COLUMN token_id TEXT NOT NULL DEFAULT 'local';
  ALTER TABLE tasks ADD COLUMN cause TEXT;
  ALTER TABLE tasks ADD COLUMN started_at TEXT;
  ALTER TABLE tasks ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE tasks ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
  ALTER TABLE tasks ADD COLUMN memory_mib INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE tasks ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE tasks ADD COLUMN retry INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE tasks ADD COLUMN has_own_key INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE tasks ADD COLUMN idempotency_key TEXT;
  ALTER TABLE tasks ADD COLUMN request_digest TEXT;
  CREATE UNIQUE INDEX tasks_by_position ON tasks (position);
  CREATE UNIQUE INDEX tasks_by_key ON tasks (token_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
  CREATE INDEX tasks_by_state ON tasks (state, token_id);
  ALTER TABLE uploads ADD COLUMN token_id TEXT NOT NULL DEFAULT 'local';
  ALTER TABLE uploads ADD COLUMN task_id TEXT;
  CREATE TABLE turns (
    token_id TEXT PRIMARY KEY,
    last_turn INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE webhooks (
    task_id TEXT PRIMARY KEY REFERENCES tasks(id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL,
    next_at TEXT NOT NULL,
    note TEXT
  ) STRICT;`,
];

/** How long a process waits for another one's transaction, in `ms`. */
const BUSY_LIMIT_MS = 5000;

/** The database cannot be used as it is. */
export class DatabaseError extends Error {
  override readonly name = "DatabaseError";
}

/** Runs `step` in one transaction: all of what it writes is there afterwards, or nothing. */
export function inTransaction<T>(database: DatabaseSync, step: () => T): T {
  // A transaction that begins by reading could fail when it comes to write
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = step();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

function versionOf(database: DatabaseSync): number {
  return Number(database.prepare("PRAGMA user_version").get()?.user_version);
}

function migrate(database: DatabaseSync, path: string): void {
  if (versionOf(database) === MIGRATIONS.length) return;
  // Another process may be at it: the version is looked at again inside
  inTransaction(database, () => {
    const version = versionOf(database);
    if (version > MIGRATIONS.length) {
      throw new DatabaseError(`${path} was written by a newer Paddock: use that, or another state folder`);
    }
    for (const migration of MIGRATIONS.slice(version)) database.exec(migration);
    database.exec(`PRAGMA user_version = ${MIGRATIONS.length}`);
  });
}

/** Whether the database can be written to now. */
export function isWritable(database: DatabaseSync): boolean {
  try {
    inTransaction(database, () => database.exec(`PRAGMA user_version = ${versionOf(database)}`));
    return true;
  } catch {
    return false;
  }
}

/** Opens the file at `path`, making it, or its newest tables, where they are missing. @throws {DatabaseError} */
export function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: BUSY_LIMIT_MS });
  try {
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
    migrate(database, path);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}
