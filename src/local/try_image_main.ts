/**
 * Tries an image on the host that this runs on, and prints what came of it as JSON: `try_image_main.ts AGENT ENTRY`.
 *
 * @module
 */

import { imageOf, type IndexEntry } from "../images/prepare.ts";
import { stateDir } from "../images/paths.ts";
import { findAgent } from "../session/agents.ts";
import { tryImage } from "../session/try_image.ts";

const [name = "", entry = "{}"] = Deno.args;
const spec = findAgent(name);
if (spec === undefined) throw new TypeError(`There is no agent "${name}"`);
const { signal } = new AbortController();
const trial = await tryImage(imageOf(JSON.parse(entry) as IndexEntry), spec, {
  stateDir: stateDir(),
  signal,
});
console.log(JSON.stringify(trial));
// A monitor that lingers is no reason to wait: the session is gone
Deno.exit(0);
