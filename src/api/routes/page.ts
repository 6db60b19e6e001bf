/**
 * `/`: the page, and the files that it is made of. They say nothing of anybody's, so they need no token.
 *
 * @module
 */

import { stripTypeScriptTypes } from "node:module";
import { problemResponse } from "../errors.ts";
import { type ApiRoutes, newRoutes } from "../openapi.ts";
import { type ApiDescription, docsHtml } from "../page/docs.tsx";
import { pageHtml } from "../page/shell.tsx";

/** Modules of the page, each with its address. */
const MODULES: ReadonlyMap<string, URL> = new Map([
  ...["main", "dom", "service", "task_view", "terminal_view", "event_view", "diff_view", "figures"].map((
    name,
  ): [string, URL] => [`page/${name}.ts`, new URL(`../page/${name}.ts`, import.meta.url)]),
  ["flow_socket.ts", new URL("../flow_socket.ts", import.meta.url)],
  ["parse_event_stream.ts", new URL("../parse_event_stream.ts", import.meta.url)],
]);

const TYPES = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript" } as const;

function answer(text: string, type: keyof typeof TYPES): Response {
  return new Response(text, { headers: { "content-type": TYPES[type], "cache-control": "no-cache" } });
}

async function asset(name: string): Promise<Response> {
  const module = MODULES.get(name);
  // A browser does not read types
  if (module !== undefined) return answer(stripTypeScriptTypes(await Deno.readTextFile(module)), "js");
  switch (name) {
    case "page/style.css":
      return answer(await Deno.readTextFile(new URL("../page/style.css", import.meta.url)), "css");
    case "xterm.css":
      return answer((await import("@xterm/xterm/css/xterm.css", { with: { type: "text" } })).default, "css");
    case "xterm.mjs":
      return answer((await import("@xterm/xterm/lib/xterm.mjs", { with: { type: "text" } })).default, "js");
    default:
      return problemResponse({ status: 404, code: "not_found", detail: "There is no such page" });
  }
}

/** The page and its files; `description` gives what `/docs` shows. */
export function pageRoutes(description: () => ApiDescription): ApiRoutes {
  const routes = newRoutes();
  routes.get("/docs", () => answer(docsHtml(description()), "html"));
  routes.get("/", () => answer(pageHtml(), "html"));
  routes.get("/assets/:name{.+}", (context) => asset(context.req.param("name")));
  return routes;
}
