/**
 * One task: its state, what happens in it, what it changed, and what it was not allowed to reach.
 *
 * @module
 */

import { diffView } from "./diff_view.ts";
import { fill, h, shownTime } from "./dom.ts";
import { eventLine } from "./event_view.ts";
import { ask, getTask, type PageEvent, Refusal, taskEvents, type TaskView } from "./service.ts";

const TABS = ["Events", "Changes", "Network", "Result"] as const;
type Tab = typeof TABS[number];

/** Most lines that are kept on the page. */
const MAX_LINES = 5000;

interface Panels {
  readonly [name: string]: HTMLElement;
}

function tabBar(panels: Panels, onShow: (tab: Tab) => void): HTMLElement {
  const bar = h("div", { role: "tablist", class: "tabs" });
  const select = (wanted: Tab): void => {
    for (const button of bar.querySelectorAll("button")) {
      const isWanted = button.textContent === wanted;
      button.setAttribute("aria-selected", String(isWanted));
      button.tabIndex = isWanted ? 0 : -1;
      if (isWanted && bar.contains(document.activeElement)) button.focus();
    }
    for (const [name, panel] of Object.entries(panels)) panel.hidden = name !== wanted;
    onShow(wanted);
  };
  for (const name of TABS) {
    bar.append(h("button", { role: "tab", type: "button", onclick: () => select(name) }, name));
  }
  bar.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const now = TABS.findIndex((name) => name === (event.target as HTMLElement).textContent);
    const next = TABS[(now + step + TABS.length) % TABS.length];
    if (step !== 0 && next !== undefined) select(next);
  });
  queueMicrotask(() => select("Events"));
  return bar;
}

function heading(task: TaskView, onCancel: () => void): HTMLElement {
  const isOver = task.endedAt !== null;
  return h(
    "header",
    {},
    h("h2", {}, task.request.prompt.split("\n")[0] || task.request.agent),
    h(
      "p",
      {},
      h("span", { class: `badge ${task.state}` }, task.state.replace("_", " ")),
      ` ${task.request.agent} · ${shownTime(task.createdAt)}`,
      task.attempt > 1 ? ` · try ${task.attempt}` : undefined,
    ),
    task.cause === null
      ? undefined
      : h("p", { class: task.state === "succeeded" ? "cause quiet" : "cause" }, task.cause),
    isOver ? undefined : h(
      "p",
      {},
      h("button", { type: "button", onclick: onCancel }, "Cancel"),
      task.state === "running"
        ? h("a", { class: "button", href: `#/sessions/${task.id}` }, "Terminal")
        : undefined,
    ),
  );
}

/** Shows a task until the signal. */
export async function showTask(id: string, into: Element, signal: AbortSignal): Promise<void> {
  const top = h("div");
  const lines = h("ol", { class: "events", "aria-live": "polite" });
  const panels = {
    Events: h("section", { role: "tabpanel" }, lines),
    Changes: h("section", { role: "tabpanel" }),
    Network: h("section", { role: "tabpanel" }, h("ol", { class: "events" })),
    Result: h("section", { role: "tabpanel" }),
  };
  const refresh = async (): Promise<TaskView> => {
    const task = await getTask(id);
    fill(top, heading(task, () => void ask(`/v1/tasks/${id}/cancel`, { method: "POST" })));
    return task;
  };
  const show = (tab: Tab): void => {
    if (tab === "Changes") void showChanges(id, panels.Changes);
    if (tab === "Result") void showResult(id, panels.Result);
  };
  await refresh();
  fill(into, top, tabBar(panels, show), ...Object.values(panels));
  for await (const event of taskEvents(id, signal)) {
    add(lines, event);
    if (event.type === "network" && event.decision.action !== "allowed") {
      add(panels.Network.querySelector("ol") ?? lines, event);
    }
    if (event.type === "state" || event.type === "result") await refresh();
  }
}

function add(list: HTMLElement, event: PageEvent): void {
  const line = eventLine(event);
  if (line === undefined) return;
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(line);
  if (list.childElementCount > MAX_LINES) list.firstElementChild?.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

async function showChanges(id: string, into: Element): Promise<void> {
  try {
    fill(into, diffView(await (await ask(`/v1/tasks/${id}/patch`)).text()));
  } catch (error) {
    if (error instanceof Refusal) fill(into, h("p", { class: "empty" }, error.message));
  }
}

async function showResult(id: string, into: Element): Promise<void> {
  const { result } = await getTask(id);
  fill(
    into,
    result === null
      ? h("p", { class: "empty" }, "Task is not over yet.")
      : h("pre", { tabindex: "0" }, JSON.stringify(result, null, 2)),
    result === null
      ? undefined
      : h("p", {}, h("button", { type: "button", onclick: () => void save(id) }, "Save all results")),
  );
}

/** A link could not carry the token. */
async function save(id: string): Promise<void> {
  const url = URL.createObjectURL(await (await ask(`/v1/tasks/${id}/bundle`)).blob());
  h("a", { href: url, download: `paddock-${id}.tar` }).click();
  URL.revokeObjectURL(url);
}
