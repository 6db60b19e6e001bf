/**
 * Runs the scripted model server by itself, printing each request: for trying things by hand.
 *
 * @module
 */

import { startModelServer } from "./model_server.ts";

if (import.meta.main) {
  const server = startModelServer({ port: Number(Deno.args[0] ?? "8790") });
  console.log(`Model server on ${server.url}/v1`);
  let shown = 0;
  setInterval(() => {
    for (const request of server.requests.slice(shown)) {
      console.log(`${request.method} ${request.path} ${request.body.length} characters`);
    }
    shown = server.requests.length;
  }, 500);
}
