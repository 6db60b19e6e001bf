import assert from "node:assert/strict";
import { fetchRepo } from "../../src/local/fetch_repo.ts";
import { HOST_OUTSIDE, type Outside } from "../../src/network/outside.ts";
import { readTar } from "../../src/session/tar_reader.ts";
import { readFileChunks } from "../../src/session/workspace_scan.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";

const { signal } = new AbortController();

/** A name that is out in the world as far as is known, and on this machine in truth. */
const ELSEWHERE: Outside = { ...HOST_OUTSIDE, resolve: () => Promise.resolve(["203.0.113.7"]) };

/** A forge: files of a repository, as git's plain https protocol wants them, behind a certificate of its own. */
async function withForge(
  folder: string,
  use: (forge: { url: string; settings: Record<string, string>; asked: string[] }) => Promise<void>,
): Promise<void> {
  await shell(
    `openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=forge.test \
       -addext subjectAltName=DNS:forge.test 2>/dev/null
     git init -q -b main r; cd r; echo hello > a.txt; printf '[network]\\nallow = ["api.example.org"]\\n' > sandbox.toml
     git add -A; git commit -qm one; cd ..; git clone -q --bare r r.git; cd r.git; git update-server-info`,
    folder,
  );
  const asked: string[] = [];
  const [cert, key] = await Promise.all(
    [`${folder}/cert.pem`, `${folder}/key.pem`].map((path) => Deno.readTextFile(path)),
  );
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {}, cert: cert ?? "", key: key ?? "" },
    async (request) => {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      if (pathname.startsWith("/moved/")) return Response.redirect(`https://forge.test/r.git/`, 302);
      return new Response(await Deno.readFile(folder + pathname).catch(() => null), {
        status: await Deno.stat(folder + pathname).then(() => 200, () => 404),
      });
    },
  );
  // It would go before git's settings
  const caFile = Deno.env.get("GIT_SSL_CAINFO");
  Deno.env.set("GIT_SSL_CAINFO", `${folder}/cert.pem`);
  using _ = {
    [Symbol.dispose]: () => {
      if (caFile === undefined) Deno.env.delete("GIT_SSL_CAINFO");
      else Deno.env.set("GIT_SSL_CAINFO", caFile);
    },
  };
  await use({
    url: `https://forge.test:${server.addr.port}/r.git`,
    asked,
    settings: {
      // In place of the address that the name is said to have
      "http.curloptResolve": `forge.test:${server.addr.port}:127.0.0.1`,
    },
  });
}

Deno.test("a repository becomes a workspace, and its sandbox.toml takes away from what the task may reach", async () => {
  await withFolder(async (folder) => {
    await withForge(folder, async ({ url, settings }) => {
      const target = `${folder}/repo.tar`;
      const wanted = {
        mode: "proxy",
        allow: ["api.example.org", "other.example.org"],
        profiles: [],
      } as const;
      const options = { stateDir: `${folder}/state`, outside: ELSEWHERE, settings, signal };
      const network = await fetchRepo({ url, branch: "main", network: wanted }, target, options);
      assert.deepEqual(network.project?.allow, ["api.example.org"]);
      const names: string[] = [];
      for await (const { name } of readTar(readFileChunks(target))) names.push(name);
      assert.ok(names.includes("a.txt") && names.includes(".git/HEAD"), names.join(" "));
      assert.deepEqual(Array.from(Deno.readDirSync(`${folder}/state/clones`)), []);
    });
  });
});

Deno.test("a repository that moves elsewhere is not followed", async () => {
  await withFolder(async (folder) => {
    await withForge(folder, async ({ url, settings, asked }) => {
      const options = { stateDir: `${folder}/state`, outside: ELSEWHERE, settings, signal };
      const moved = url.replace("/r.git", "/moved/r.git");
      await assert.rejects(
        fetchRepo({ url: moved, network: undefined }, `${folder}/x.tar`, options),
        /Cannot clone/,
      );
      assert.ok(asked.length > 0 && asked.every((path) => path.startsWith("/moved/")), asked.join(" "));
    });
  });
});

Deno.test("repositories inside, with a password, or by another protocol are refused", async () => {
  await withFolder(async (folder) => {
    const cases: [string, RegExp][] = [
      ["https://127.0.0.1/x.git", /resolves to 127\.0\.0\.1/],
      ["https://[::1]/x.git", /resolves to ::1/],
      ["https://169.254.169.254/latest", /resolves to 169\.254/],
      ["https://localhost/x.git", /resolves to/],
      ["http://example.org/x.git", /https/],
      ["file:///etc", /https/],
      ["https://me:secret@example.org/x.git", /without a user/],
    ];
    for (const [url, why] of cases) {
      const options = { stateDir: `${folder}/state`, signal };
      await assert.rejects(fetchRepo({ url, network: undefined }, `${folder}/x.tar`, options), why, url);
    }
  });
});
