import assert from "node:assert/strict";
import { LocalError } from "../../src/local/local_error.ts";
import { networkRequest, parseProjectFile } from "../../src/local/project_egress.ts";
import { EgressPolicy, type EgressRequest } from "../../src/network/egress_policy.ts";

const wanted = { mode: "proxy", allow: ["*.example.com", "registry.npmjs.org"], profiles: [] } as const;

async function withProject(text: string, use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/sandbox.toml`, text);
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Of some names, those that the policy lets through. */
const allowed = (request: EgressRequest): string[] => {
  const policy = new EgressPolicy(request);
  const names = ["a.example.com", "b.example.com", "registry.npmjs.org", "evil.example.net"];
  return policy.isOpen ? names.filter((name) => policy.refusal(name, 443) === undefined) : [];
};

Deno.test("sandbox.toml narrows what the user allows, and widens nothing", async () => {
  const cases: [string, string[]][] = [
    ["", ["a.example.com", "b.example.com", "registry.npmjs.org"]],
    ['title = "x"\n[build]\nallow = ["evil.example.net"]', [
      "a.example.com",
      "b.example.com",
      "registry.npmjs.org",
    ]],
    ['[network]\nallow = ["a.example.com", "evil.example.net"]', ["a.example.com"]],
    ['[network]\nprofiles = ["packages"]', ["registry.npmjs.org"]],
    ['[network]\ndeny = ["*.example.com"]', ["registry.npmjs.org"]],
    ["[network]\nallow = []", []],
    ['[network]\nmode = "none"', []],
  ];
  for (const [text, names] of cases) {
    await withProject(
      text,
      async (folder) => assert.deepEqual(allowed(await networkRequest(wanted, folder)), names, text),
    );
  }
  await withProject('[network]\nmode = "proxy"\nallow = ["*.example.com"]', async (folder) => {
    assert.deepEqual(allowed(await networkRequest({ ...wanted, mode: "none" }, folder)), []);
    assert.deepEqual(allowed(await networkRequest({ ...wanted, allow: [] }, folder)), []);
  });
});

Deno.test("a folder without the file, and no folder, leave the user's rules as they are", async () => {
  assert.equal(await networkRequest(wanted, undefined), wanted);
  assert.equal(await networkRequest(wanted, "/no/such/folder"), wanted);
});

Deno.test("a file that cannot be understood is one line of bad usage", () => {
  const cases: [string, RegExp][] = [
    ["[network", /line 1: /],
    ['network = "all"', /network must be a table/],
    ["[[network]]", /network must be a table/],
    ['[network]\nalow = ["a.example.com"]', /network\.alow is not known/],
    ['[network]\nmode = "all"', /network\.mode must be none or proxy or nat/],
    ['[network]\nallow = "a.example.com"', /network\.allow must be a list of strings/],
    ["[network]\ndeny = [1]", /network\.deny must be a list of strings/],
  ];
  for (const [text, reason] of cases) {
    assert.throws(() => parseProjectFile(text), (error) => {
      assert.ok(error instanceof LocalError && error.code === "usage", text);
      assert.match(error.message, reason);
      assert.match(error.message, /^Cannot use sandbox\.toml: [^\n]*$/);
      return true;
    });
  }
});

Deno.test("bad rules are told apart by whose they are", async () => {
  await assert.rejects(networkRequest({ ...wanted, allow: ["https://x.example"] }, undefined), {
    name: "LocalError",
    code: "usage",
    message: 'Cannot use rule "https://x.example": give a host name, without a scheme',
  });
  await withProject('[network]\ndeny = ["10.0.0.1"]', async (folder) => {
    await assert.rejects(
      networkRequest(wanted, folder),
      /^LocalError: Cannot use sandbox\.toml: Cannot use rule "10\.0\.0\.1"/,
    );
  });
  await withProject('[network]\nprofiles = ["all"]', async (folder) => {
    await assert.rejects(networkRequest(wanted, folder), /There is no network profile "all"/);
  });
});

Deno.test("sandbox.toml is not read through a link, nor at any length", async () => {
  await withProject("", async (folder) => {
    await Deno.rename(`${folder}/sandbox.toml`, `${folder}/real.toml`);
    await Deno.symlink("real.toml", `${folder}/sandbox.toml`);
    await assert.rejects(networkRequest(wanted, folder), /not a file of at most 64 KiB/);
  });
  await withProject(`#${"x".repeat(70_000)}`, async (folder) => {
    await assert.rejects(networkRequest(wanted, folder), /not a file of at most 64 KiB/);
  });
});
