import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import { openTaskService } from "../../src/api/task_service.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";
import { startSandbox } from "../support/sandbox_cli.ts";
import { fakeMaker } from "../support/session_maker.ts";
import { TEST_TOKEN } from "../support/task_service.ts";

testWithNativeGuest(
  "a session without a task is started, listed, paused and removed from the command line",
  async () => {
    await withNativeGuest(async (guest) => {
      const stateDir = await Deno.makeTempDir();
      const { make, prepare, made } = fakeMaker(guest);
      const limits = { maxVms: 1, maxMemoryMib: 4096 };
      const service = await openTaskService({ stateDir, makeSession: make, prepare, limits });
      const app = createApp({ service, token: TEST_TOKEN });
      const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
      const env = { PADDOCK_SERVER: `http://127.0.0.1:${server.addr.port}`, PADDOCK_API_TOKEN: TEST_TOKEN };
      const cli = (...args: string[]): ReturnType<typeof startSandbox>["result"] =>
        startSandbox(args, env).result;
      try {
        const started = await cli("start", "--ttl", "2h", "--label", "job:7", "--network", "none");
        assert.equal(started.code, 0, started.stderr);
        const id = started.stdout.trim();
        assert.match((await cli("ls")).stdout, new RegExp(`${id} +running +shell +512 MiB +0 min +in 2 h`));
        assert.equal((await cli("pause", id)).code, 0);
        assert.equal(made[0]?.isPaused, true);
        assert.match((await cli("ls")).stdout, /paused/);
        assert.equal((await cli("resume", id)).code, 0);
        assert.equal(made[0]?.isPaused, false);
        const full = await cli("start");
        assert.deepEqual([full.code, /wait, or stop a session/.test(full.stderr)], [3, true], full.stderr);
        assert.equal((await cli("rm", id)).code, 0);
        assert.equal(made[0]?.isDisposed, true);

        const ran = await cli("exec", id, "--", "true");
        assert.deepEqual([ran.code, /no session/.test(ran.stderr)], [3, true], ran.stderr);
        for (
          const wrong of [["start", "a", "b"], ["start", "--ttl", "soon"], ["start", "--network", "all"], [
            "pause",
          ]]
        ) {
          assert.equal((await cli(...wrong)).code, 2, wrong.join(" "));
        }
        const unknown = await cli("start", "nobody");
        assert.deepEqual([unknown.code, /There is no agent "nobody"/.test(unknown.stderr)], [3, true]);
      } finally {
        await service.close();
        await server.shutdown();
        await Deno.remove(stateDir, { recursive: true });
      }
    });
  },
);
