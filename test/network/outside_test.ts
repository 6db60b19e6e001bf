import assert from "node:assert/strict";

/** Connects to names by the host's own resolver, and says how that went. */
const SCRIPT = `import { connectOutside, HOST_OUTSIDE } from "${
  new URL("../../src/network/outside.ts", import.meta.url).href
}";
for (const name of Deno.args) {
  try {
    (await connectOutside(HOST_OUTSIDE, name, 80)).close();
    console.log(name, "CONNECTED");
  } catch (error) {
    console.log(name, error.message);
  }
}`;

const HOSTS = `127.0.0.1 localhost loopback.rebind.example
169.254.169.254 metadata.rebind.example
10.1.2.3 private.rebind.example
::1 six.rebind.example
203.0.113.99 mixed.rebind.example
192.168.7.7 mixed.rebind.example
OWN own.rebind.example
`;
const NAMES = [...HOSTS.matchAll(/[a-z]+\.rebind\.example/g)].map(([name]) => name).filter((
  name,
  index,
  all,
) => all.indexOf(name) === index);

/** An address of this machine that is not loopback's. */
const OWN = Deno.networkInterfaces().find(({ family, address }) =>
  family === "IPv4" && !address.startsWith("127.")
)
  ?.address;
const canMount = Deno.uid() === 0 && OWN !== undefined &&
  new Deno.Command("unshare", { args: ["-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"], stderr: "null" })
    .outputSync().success;

Deno.test({
  name: `names that the host's own resolver leads inside are not connected to${
    canMount ? "" : " (skipped: needs root, mount namespaces and a network)"
  }`,
  ignore: !canMount,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir();
    try {
      await Deno.writeTextFile(`${folder}/hosts`, HOSTS.replace("OWN", OWN ?? ""));
      await Deno.writeTextFile(`${folder}/connect.ts`, SCRIPT);
      // Names of a mount namespace's own: the machine's are nobody's to change.
      const script = `mount --bind "$0/hosts" /etc/hosts && exec "$1" run --no-check --no-lock --no-prompt \
        --allow-net --allow-sys --allow-read "$0/connect.ts" ${NAMES.join(" ")}`;
      const { code, stdout, stderr } = await new Deno.Command("unshare", {
        args: ["-m", "sh", "-c", script, folder, Deno.execPath()],
      }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      const lines = new TextDecoder().decode(stdout).trim().split("\n");
      assert.equal(lines.length, NAMES.length);
      const wanted: Record<string, RegExp> = {
        loopback: /resolves to 127\.0\.0\.1 \(loopback\)/,
        metadata: /resolves to 169\.254\.169\.254 \(link-local and metadata\)/,
        private: /resolves to 10\.1\.2\.3 \(private\)/,
        six: /resolves to (::1|127\.0\.0\.1) \((not public|loopback)\)/,
        mixed: /resolves to 192\.168\.7\.7 \(private\)/,
        own: /resolves to [0-9.]+ \((the host's own|private|shared.*|link-local.*)\)/,
      };
      for (const line of lines) assert.match(line, wanted[line.split(".")[0] ?? ""] ?? /never/, line);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
