import assert from "node:assert/strict";
import puppeteer, { type Browser, type Page } from "puppeteer-core";
import type { TaskRunner } from "../../src/api/task_service.ts";
import type { RecordedEvent } from "../../agent-images/agent_event.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";
import { type TestServiceOptions, withService } from "../support/service.ts";
import { fakeMaker } from "../support/session_maker.ts";
import { endedAs } from "../support/task_service.ts";

const BROWSER = "/usr/bin/chromium";
/** Screenshots go there, to be looked at. */
const SHOTS = Deno.env.get("PADDOCK_SCREENSHOTS");

const PATCH = `diff --git a/src/a.ts b/src/a.ts
index 1..2 100644
--- a/src/a.ts
+++ b/src/a.ts
@@ -1,2 +1,2 @@
-const a = 1;
+const a = "<img src=x onerror=alert(1)>";
 const b = 2;
`;
const HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">";

type WithoutStamp<E> = E extends unknown ? Omit<E, "v" | "at"> : never;

/** Does a bit of everything, with words that would be markup, and ends when it is let. */
function scriptedRunner(end: Promise<unknown>): TaskRunner {
  return async ({ folder, onEvent }) => {
    const agent = (event: WithoutStamp<RecordedEvent>): void =>
      onEvent({ type: "agent", event: { v: 1, at: new Date().toISOString(), ...event } as RecordedEvent });
    onEvent({ type: "phase", phase: "prepare", ms: 12 });
    agent({ type: "message", text: `I look at it. ${HOSTILE}` });
    agent({ type: "tool_call", id: "1", name: "shell", command: true, input: "npm test" });
    agent({
      type: "tool_result",
      id: "1",
      ok: false,
      exitCode: 1,
      durationMs: 5,
      output: `1 failing ${HOSTILE}`,
    });
    onEvent({
      type: "network",
      decision: {
        action: "denied",
        protocol: "tls",
        host: "example.com",
        port: 443,
        reason: "not in allow-list",
      },
    });
    await end;
    await Deno.writeTextFile(`${folder}/changes.patch`, PATCH);
    return endedAs("done");
  };
}

interface Setup {
  readonly page: Page;
  readonly url: string;
  readonly token: string;
  readonly endTasks: () => void;
  /** makes something and gives its id */
  readonly post: (path: string, body: unknown) => Promise<string>;
}

async function openBrowser(): Promise<Browser> {
  return await puppeteer.launch({
    executablePath: BROWSER,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
  });
}

async function withPage(
  use: (setup: Setup) => Promise<void>,
  sessions: Pick<TestServiceOptions, "makeSession" | "prepare"> = {},
): Promise<void> {
  const end = Promise.withResolvers<void>();
  const options = { ...sessions, runner: scriptedRunner(end.promise), hasPage: true };
  await withService(options, async ({ server, token, ask }) => {
    const browser = await openBrowser();
    const text = token({ scopes: ["admin"] });
    const problems: string[] = [];
    const post = async (path: string, body: unknown): Promise<string> => {
      const init = {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      };
      return (await (await ask(text, path, init)).json() as { id: string }).id;
    };
    try {
      const page = await browser.newPage();
      await page.setViewport({ width: 1280, height: 900 });
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("console", (message) => {
        // What the server refuses the page shows
        if (message.type() === "error" && !/status of 4/.test(message.text())) problems.push(message.text());
      });
      await use({ page, url: `${server.url}/`, token: text, endTasks: end.resolve, post });
      assert.deepEqual(problems, []);
    } finally {
      end.resolve();
      await browser.close();
    }
  });
}

async function shoot(page: Page, name: string): Promise<void> {
  if (SHOTS !== undefined) await page.screenshot({ path: `${SHOTS}/${name}.png` });
}

async function colorOf(page: Page, selector: string): Promise<string> {
  return await page.$eval(selector, (element) => getComputedStyle(element).color);
}

async function signIn({ page, url, token }: Setup): Promise<void> {
  await page.goto(url);
  await page.waitForSelector("#token");
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#tasks");
}

async function waitForText(page: Page, text: string): Promise<void> {
  await page.waitForFunction((wanted: string) => document.body.innerText.includes(wanted), {
    timeout: 60_000,
  }, text);
}

// The library keeps timers of its own
const UNCHECKED = { sanitizeOps: false, sanitizeResources: false } as const;

function browserTest(name: string, use: (setup: Setup) => Promise<void>): void {
  Deno.test({ name, ...UNCHECKED, fn: () => withPage(use) });
}

browserTest("a wrong token is refused, the right one shows the tasks", async (setup) => {
  const { page, url } = setup;
  await page.goto(url);
  await page.waitForSelector("#token");
  await shoot(page, "sign-in");
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await waitForText(page, "Bearer token is wrong");
  await signIn(setup);
  await waitForText(page, "There are no tasks.");
});

browserTest(
  "a task is submitted by keyboard alone, its events come as they happen, and its changes are shown",
  async (setup) => {
    const { page, endTasks } = setup;
    await signIn(setup);
    await page.keyboard.press("n");
    await page.keyboard.type(`Fix it ${HOSTILE}`);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await waitForText(page, "$ npm test");
    await waitForText(page, "denied: example.com:443");
    await shoot(page, "task-running");
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    await shoot(page, "task-running-dark");
    endTasks();
    await waitForText(page, "succeeded");
    await page.focus('[role="tab"]');
    await page.keyboard.press("ArrowRight");
    await waitForText(page, "src/a.ts");
    await shoot(page, "changes-dark");
    // Red is for what went wrong
    assert.notEqual(await colorOf(page, ".cause"), await colorOf(page, ".diff summary .removed"));
    const added = await page.$eval(".diff pre .added", (element) => element.textContent);
    assert.match(added ?? "", /^\+const a = "<img/);
    await page.keyboard.press("ArrowRight");
    await waitForText(page, "not in allow-list");
    await page.keyboard.press("ArrowRight");
    await waitForText(page, '"outcome": "done"');
    await page.keyboard.press("Escape");
    await page.waitForSelector("#tasks a");
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
    await page.waitForSelector("#figures polyline");
    await shoot(page, "tasks");
    // Nothing of what the task said became markup
    assert.equal(await page.title(), "Paddock");
    assert.equal(await page.$("main script, main img"), null);
  },
);

browserTest("a task is cancelled from its page", async (setup) => {
  const { page, url, post } = setup;
  await signIn(setup);
  const id = await post("/v1/tasks", { agent: "shell", prompt: "wait" });
  await page.goto(`${url}#/tasks/${id}`);
  await page.waitForSelector("main header button");
  assert.equal(await page.$eval("main header button", (button) => button.textContent), "Cancel");
  await page.focus("main header button");
  await page.keyboard.press("Enter");
  setup.endTasks();
  await page.waitForFunction(() => document.querySelector("main header button") === null);
});

browserTest("the reference shows every operation", async ({ page, url }) => {
  const missing = await page.goto(`${url}docs`);
  assert.equal(missing?.status(), 200);
  await waitForText(page, "POST /v1/tasks");
  await waitForText(page, "GET /v1/sessions/{id}/console");
  await shoot(page, "docs");
});

testWithNativeGuest("a terminal leads into a session", () =>
  withNativeGuest(async (guest) => {
    const { make, prepare } = fakeMaker(guest);
    await withPage(async (setup) => {
      const { page, url, post } = setup;
      await signIn(setup);
      const id = await post("/v1/sessions", { agent: "shell" });
      await page.goto(`${url}#/sessions`);
      // This guest has no other user
      const link = `a[href="#/sessions/${id}/root"]`;
      await page.waitForSelector(link);
      await page.focus(link);
      await page.keyboard.press("Enter");
      await page.waitForSelector(".xterm-rows");
      await waitForText(page, "Connected.");
      await page.keyboard.type("echo six times seven is $((6 * 7)); stty size");
      await page.keyboard.press("Enter");
      await waitForText(page, "six times seven is 42");
      await shoot(page, "terminal");
      await page.keyboard.type("exit 3");
      await page.keyboard.press("Enter");
      await waitForText(page, "The shell ended with 3.");
    }, { makeSession: make, prepare });
  }));
