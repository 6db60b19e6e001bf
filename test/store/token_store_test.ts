import assert from "node:assert/strict";
import type { DatabaseSync } from "node:sqlite";
import { openDatabase } from "../../src/store/database.ts";
import { type NewToken, TokenStore } from "../../src/store/token_store.ts";

const READER: NewToken = {
  name: "reader",
  scopes: ["tasks:read"],
  expiresAt: null,
  ratePerMinute: 60,
  maxActive: 2,
};

function openStore(): { readonly store: TokenStore; readonly database: DatabaseSync } {
  const database = openDatabase(":memory:");
  return { store: new TokenStore(database), database };
}

Deno.test("a token's text lets its bearer in, with what it was made with", () => {
  const { store } = openStore();
  const { token, text } = store.create(READER);
  assert.match(text, /^pdk_[a-z2-7]{10}_[A-Za-z0-9_-]{43}$/);
  assert.deepEqual(store.check(text), token);
  assert.deepEqual([token.name, token.scopes, token.ratePerMinute, token.maxActive], [
    "reader",
    [
      "tasks:read",
    ],
    60,
    2,
  ]);
});

Deno.test("a token's secret is not in the database", () => {
  const { store, database } = openStore();
  const { text } = store.create(READER);
  const [, , secret = ""] = /^pdk_(.{10})_(.*)$/.exec(text) ?? [];
  const row = database.prepare("SELECT * FROM tokens").get() ?? {};
  const stored = Object.values(row).map((value) =>
    value instanceof Uint8Array ? Array.from(value, (byte) => String.fromCharCode(byte)).join("") : `${value}`
  );
  assert.equal(secret.length, 43);
  assert.ok(!stored.some((value) => value.includes(secret)));
  assert.ok(!stored.some((value) => value.includes(atob(secret.replaceAll("-", "+").replaceAll("_", "/")))));
});

Deno.test("what is no token, or another's secret, is unknown", () => {
  const { store } = openStore();
  const [one, other] = [store.create(READER).text, store.create(READER).text];
  const mixed = one.slice(0, 15) + other.slice(15);
  const texts = ["", "pdk", mixed, one.slice(0, -1), `${one}x`, ` ${one}`, one.toUpperCase(), "pdk__", "\0"];
  for (const text of texts) assert.equal(store.check(text), "unknown", text);
});

Deno.test("a token ends when it expires", () => {
  const { store } = openStore();
  const past = store.create({ ...READER, expiresAt: new Date(Date.now() - 1).toISOString() });
  const future = store.create({ ...READER, expiresAt: new Date(Date.now() + 60_000).toISOString() });
  assert.equal(store.check(past.text), "expired");
  assert.equal(typeof store.check(future.text), "object");
});

Deno.test("a token that another connection revokes is refused at once", async () => {
  const path = await Deno.makeTempFile();
  const [server, cli] = [openDatabase(path), openDatabase(path)];
  const [serving, revoking] = [new TokenStore(server), new TokenStore(cli)];
  const { token, text } = serving.create(READER);
  assert.equal(typeof serving.check(text), "object");
  assert.equal(revoking.revoke(token.id), true);
  assert.equal(revoking.revoke(token.id), false);
  assert.equal(revoking.revoke("nosuchtokn"), false);
  assert.equal(serving.check(text), "revoked");
  server.close();
  cli.close();
  await Deno.remove(path);
});

Deno.test("a token's use is noted once a minute", () => {
  const { store, database } = openStore();
  const { token } = store.create(READER);
  const lastUse = (): string | null => store.get(token.id)?.lastUsedAt ?? null;
  assert.equal(lastUse(), null);
  store.noteUse(token);
  const first = lastUse();
  assert.ok(first !== null && Math.abs(Date.parse(first) - Date.now()) < 5000);
  const old = new Date(Date.now() - 59_000).toISOString();
  database.prepare("UPDATE tokens SET last_used_at = ?").run(old);
  store.noteUse({ ...token, lastUsedAt: old });
  assert.equal(lastUse(), old);
  const older = new Date(Date.now() - 61_000).toISOString();
  store.noteUse({ ...token, lastUsedAt: older });
  assert.notEqual(lastUse(), old);
});
