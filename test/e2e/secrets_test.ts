import assert from "node:assert/strict";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import {
  assertNothingLeft,
  onVmHost,
  startSandbox,
  VMM_PATTERN,
  withFolder,
} from "../support/sandbox_cli.ts";

/**
 * Searches the guest for the key by a pattern that does not match itself; what it finds shows in its output. Not with
 * `grep -r`: busybox's follows the agent's links to its own program, 200 MB that take minutes.
 */
const SEARCH_GUEST = `echo searching; env | grep -a 'sk-guarded-[0-9a-f]' && echo FOUND in env
  cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a 'sk-guarded-[0-9a-f]' && echo FOUND in proc
  find /home /tmp /etc /workspace /run /var -type f -exec grep -aE 'sk-guarded-[0-9a-f]' {} + 2>/dev/null && echo FOUND in files
  echo searched`;

/**
 * Searches the memory of all VMM processes, guest RAM first of all; NEEDLE comes as a regular expression. The large
 * ranges that V8 reserves for code are left out.
 */
const SEARCH_VMM = `total=0
  for pid in $(ls /proc | grep '^[0-9]*$'); do
    tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -qE '${VMM_PATTERN}' || continue
    tr '\\0' '\\n' < /proc/$pid/environ | grep -a NEEDLE && echo "FOUND in environment"
    while read -r range access offset device inode name; do
      case $access in r*) ;; *) continue ;; esac
      start=$((0x\${range%-*})); size=$((0x\${range#*-} - start))
      case $name in *guest-ram*) ;; *) [ $size -lt 100000000 ] || continue ;; esac
      dd if=/proc/$pid/mem bs=1M iflag=skip_bytes,count_bytes skip=$start count=$size 2>/dev/null |
        grep -qa NEEDLE && echo "FOUND in memory $range $name"
      total=$((total + size / 1048576))
    done < /proc/$pid/maps
  done
  echo "scanned MiB: $total"`;

Deno.test("the key of the model's API is not in the guest: environment, files, command line, memory", async () => {
  const key = `sk-guarded-${crypto.randomUUID().replaceAll("-", "")}`;
  const server = startModelServer({ requiredKey: key });
  await withFolder(async (folder) => {
    const prefix = scriptPrefix({ commands: [SEARCH_GUEST], finalText: "Searched." });
    const args = [
      "run",
      "codex",
      "search",
      "--model-url",
      `${server.url}/fault/second-silent${prefix}/v1`,
      "--out",
      `${folder}/out`,
    ];
    const cli = startSandbox([...args, "--json"], { OPENAI_API_KEY: key });
    // The model falls silent in its second turn: the guest lives on while it is looked at.
    await cli.sees('"type":"tool_result"');
    const found = await onVmHost(SEARCH_VMM.replaceAll("NEEDLE", "'sk-guarded-[0-9a-f]'"));
    cli.kill("SIGINT");
    const { stdout, stderr } = await cli.result;
    assert.ok(!found.includes("FOUND"), found);
    const scanned = Number(/scanned MiB: ([0-9]+)/.exec(found)?.[1]);
    assert.ok(scanned >= 1024, `the guest's memory was among what was searched: ${found}`);
    // What the guest found would stand between the two words.
    assert.ok(stdout.includes('"output":"searching\\nsearched\\n"'), stdout);
    assert.ok(!stdout.includes(key) && !stderr.includes(key));
    assert.ok(server.requests.every((request) => request.headers.authorization === `Bearer ${key}`));
    assert.ok(server.requests.every((request) => !request.body.includes(key)));
  }).finally(() => server.close());
  await assertNothingLeft(30_000);
});
