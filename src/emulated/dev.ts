import { emulatedHostStatus, execInEmulatedHost, startEmulatedHost, stopEmulatedHost } from "./host.ts";
const [verb, ...rest] = Deno.args;
if (verb === "stop") await stopEmulatedHost();
else if (verb === "status") console.log(await emulatedHostStatus());
else {
  const t = performance.now();
  const host = await startEmulatedHost({
    onProgress: (e) => e.type === "progress" || console.error(JSON.stringify(e)),
  });
  if (verb === "exec") {
    const child = execInEmulatedHost(host, {
      argv: rest[0] === "--" ? rest.slice(1) : rest,
      cwd: "/paddock",
    });
    if (!Deno.stdin.isTerminal()) void Deno.stdin.readable.pipeTo(child.stdin).catch(() => {});
    else void child.stdin.close();
    const [status] = await Promise.all([
      child.status,
      child.stdout.pipeTo(Deno.stdout.writable, { preventClose: true }),
      child.stderr.pipeTo(Deno.stderr.writable, { preventClose: true }),
    ]);
    Deno.exit(status.code);
  }
  console.error("ready", Math.round(performance.now() - t), "ms");
  Deno.exit(0);
}
