import assert from "node:assert/strict";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import { assertNothingLeft, onVmHost, startSandbox, withFolder } from "../support/sandbox_cli.ts";

/** Searches the guest for the key by a pattern that does not match itself; what it finds shows in its output. */
const SEARCH_GUEST = `echo searching; env | grep -a 'sk-guarded-[0-9a-f]' && echo FOUND in env
  cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a 'sk-guarded-[0-9a-f]' && echo FOUND in proc
  grep -raE 'sk-guarded-[0-9a-f]' /home /tmp /etc /workspace /run /var 2>/dev/null && echo FOUND in files
  echo searched`;

/** Searches all memory of all VMM processes, guest RAM included; NEEDLE comes as a regular expression. */
const SEARCH_VMM = `for pid in $(ls /proc | grep '^[0-9]*$'); do
    tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -q '[s]rc/vmm/main.ts' || continue
    echo "VMM $pid"
    tr '\\0' '\\n' < /proc/$pid/environ | grep -a NEEDLE && echo "FOUND in environment"
    while read -r range access rest; do
      case $access in r*) ;; *) continue ;; esac
      start=$((0x\${range%-*})); end=$((0x\${range#*-}))
      dd if=/proc/$pid/mem bs=4096 skip=$((start / 4096)) count=$(((end - start) / 4096)) 2>/dev/null |
        grep -qa NEEDLE && echo "FOUND in memory $range $rest"
      echo "$(((end - start) / 1048576))" >> /tmp/scanned
    done < /proc/$pid/maps
    echo "scanned MiB: $(awk '{ sum += $1 } END { print sum }' /tmp/scanned)"; rm -f /tmp/scanned
  done`;

Deno.test("the key of the model's API is not in the guest: environment, files, command line, memory", async () => {
  const key = `sk-guarded-${crypto.randomUUID().replaceAll("-", "")}`;
  const server = startModelServer({ requiredKey: key });
  await withFolder(async (folder) => {
    const prefix = scriptPrefix({
      commands: [SEARCH_GUEST, "echo holding; sleep 90"],
      finalText: "Searched.",
    });
    const args = [
      "run",
      "codex",
      "search",
      "--model-url",
      `${server.url}${prefix}/v1`,
      "--out",
      `${folder}/out`,
    ];
    const cli = startSandbox([...args, "--json"], { OPENAI_API_KEY: key });
    await cli.sees("echo holding");
    const found = await onVmHost(SEARCH_VMM.replaceAll("NEEDLE", "'sk-guarded-[0-9a-f]'"));
    cli.kill("SIGINT");
    const { stdout, stderr } = await cli.result;
    assert.ok(!found.includes("FOUND"), found);
    const scanned = Number(/scanned MiB: ([0-9]+)/.exec(found)?.[1]);
    assert.ok(scanned >= 1024, `the guest's memory was among what was searched: ${found}`);
    assert.match(stdout, /searched/);
    assert.ok(!stdout.includes("FOUND in env\\n") && !/aggregated|output":"[^"]*FOUND/.test(stdout), stdout);
    assert.ok(!stdout.includes(key) && !stderr.includes(key));
    assert.ok(server.requests.every((request) => request.headers.authorization === `Bearer ${key}`));
    assert.ok(server.requests.every((request) => !request.body.includes(key)));
  }).finally(() => server.close());
  await assertNothingLeft(30_000);
});
