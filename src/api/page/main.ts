/**
 * The page: what it shows follows from the part of its address behind `#`.
 *
 * @module
 */

import { byId, fill, h, shownTime } from "./dom.ts";
import { showFigures } from "./figures.ts";
import { ask, listTasks, Refusal, token, useToken } from "./service.ts";
import { showTask } from "./task_view.ts";
import { showSessions, showTerminal } from "./terminal_view.ts";

const LIST_PAUSE_MS = 3000;

let shown = new AbortController();

function signIn(why: string): void {
  const field = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    required: true,
    placeholder: "pdk_…",
  });
  const use = (event: Event): void => {
    event.preventDefault();
    useToken(field.value);
    route();
  };
  fill(
    byId("main"),
    h(
      "form",
      { class: "card", onsubmit: use },
      h("label", { for: "token" }, "Token"),
      field,
      h("button", { type: "submit" }, "Sign in"),
      h("p", { class: "cause", role: "alert" }, why),
      h("p", { class: "hint" }, "Made by sandbox token create NAME; it stays in this tab."),
    ),
  );
  field.focus();
}

function say(error: unknown): void {
  if (shown.signal.aborted) return;
  if (error instanceof Refusal && error.status === 401) return signIn(token() === "" ? "" : error.message);
  const text = error instanceof Error ? error.message : String(error);
  fill(byId("main"), h("p", { class: "cause", role: "alert" }, text));
}

async function submitTask(form: HTMLFormElement): Promise<void> {
  const field = (name: string): string => String(new FormData(form).get(name) ?? "").trim();
  const repo = field("repo");
  const body = {
    agent: field("agent"),
    prompt: field("prompt"),
    ...(repo === "" ? {} : { repo: { url: repo } }),
  };
  try {
    const task = await (await ask("/v1/tasks", { method: "POST", body: JSON.stringify(body) })).json() as {
      id: string;
    };
    location.hash = `#/tasks/${task.id}`;
  } catch (error) {
    byId("refused").textContent = error instanceof Error ? error.message : String(error);
  }
}

function newTaskForm(): HTMLElement {
  const form: HTMLFormElement = h(
    "form",
    {
      class: "card",
      onsubmit: (event) => {
        event.preventDefault();
        void submitTask(form);
      },
    },
    h("h2", {}, "New task"),
    h("label", { for: "agent" }, "Agent"),
    h("input", { id: "agent", name: "agent", value: "codex", required: true, list: "agents" }),
    h(
      "datalist",
      { id: "agents" },
      ...["codex", "claude-code", "openclaw", "opencode", "shell"].map((value) => h("option", { value })),
    ),
    h("label", { for: "prompt" }, "What it is to do"),
    h("textarea", { id: "prompt", name: "prompt", rows: "4", required: true }),
    h("label", { for: "repo" }, "Repository (https, optional)"),
    h("input", { id: "repo", name: "repo", type: "url", placeholder: "https://example.org/thing.git" }),
    h("button", { type: "submit" }, "Submit"),
    h("p", { class: "cause", id: "refused", role: "alert" }),
  );
  return form;
}

async function showList(into: Element, signal: AbortSignal): Promise<void> {
  const list = h("ul", { class: "list", id: "tasks" });
  const filter = h(
    "select",
    { id: "filter", "aria-label": "State" },
    ...["", "queued", "running", "succeeded", "failed", "cancelled", "timed_out", "interrupted"].map((
      state,
    ) => h("option", { value: state }, state === "" ? "all states" : state.replace("_", " "))),
  );
  fill(into, newTaskForm(), h("section", {}, h("h2", {}, "Tasks ", filter), list));
  const refresh = async (): Promise<void> => {
    const tasks = await listTasks(filter.value);
    const focused = document.activeElement?.getAttribute("href");
    fill(
      list,
      ...tasks.map(({ id, state, request, createdAt }) =>
        h(
          "li",
          {},
          h(
            "a",
            { href: `#/tasks/${id}` },
            h("b", {}, request.prompt.split("\n")[0]?.slice(0, 80) || request.agent),
          ),
          h("span", { class: `badge ${state}` }, state.replace("_", " ")),
          h("small", {}, `${request.agent} · ${shownTime(createdAt)}`),
        )
      ),
      tasks.length === 0 ? h("li", { class: "empty" }, "There are no tasks.") : undefined,
    );
    // What has the keyboard keeps it
    if (focused !== null && focused !== undefined) {
      list.querySelector<HTMLElement>(`a[href="${focused}"]`)?.focus();
    }
  };
  filter.addEventListener("change", () => void refresh().catch(say));
  while (!signal.aborted) {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, LIST_PAUSE_MS));
  }
}

function route(): void {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  const main = byId("main");
  const [, kind = "", id = "", user = ""] = location.hash.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.getAttribute("href") === `#/${kind}`;
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (token() === "") return signIn("");
  void showFigures(byId("figures"), signal);
  const showing = kind === "tasks" && id !== ""
    ? showTask(id, main, signal)
    : kind === "sessions" && id !== ""
    ? showTerminal({ id, user: user === "root" ? "root" : "agent" }, main, signal)
    : kind === "sessions"
    ? showSessions(main)
    : showList(main, signal);
  showing.catch(say);
}

addEventListener("hashchange", route);
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "Escape" && !isTyping && document.getElementById("terminal") === null) {
    location.hash = "#/";
  }
  if (event.key === "n" && !isTyping && !event.ctrlKey && !event.metaKey) {
    const prompt = document.getElementById("prompt");
    if (prompt !== null && document.getElementById("terminal") === null) {
      event.preventDefault();
      prompt.focus();
    }
  }
});
route();
