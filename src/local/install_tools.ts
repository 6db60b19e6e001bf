/**
 * Installs the host programs that are missing, once the user has agreed.
 *
 * @module
 */

import {
  findTool,
  HOST_TOOLS,
  installMissing,
  missingTools,
  type ToolPurpose,
} from "../images/host_tools.ts";
import { stateDir } from "../images/paths.ts";
import { fixCommand, neededPurposes } from "./doctor.ts";
import { chooseHost } from "./host_choice.ts";
import { LocalError } from "./local_error.ts";

const BUILD_PURPOSES: readonly ToolPurpose[] = ["image", "kernel"];

/** Options of {@linkcode ensureTools}. */
export interface EnsureToolsOptions {
  /** the user has agreed on the command line */
  readonly install: boolean;
  /** a repository is going to be packed, which takes git */
  readonly needsGit?: boolean;
  /** asks the user; gives false where there is nobody to ask */
  readonly confirm: (question: string) => boolean;
  readonly onLine: (line: string) => void;
}

/** Makes sure that everything a task needs is installed. */
export async function ensureTools(options: EnsureToolsOptions): Promise<void> {
  const { kind } = await chooseHost(stateDir());
  // Where the cache is filled by another machine, nothing is built here.
  const isBuilder = Deno.env.get("PADDOCK_CACHE_READONLY") !== "1";
  const purposes = neededPurposes(kind).filter((purpose) => isBuilder || !BUILD_PURPOSES.includes(purpose));
  const missing = await missingTools(...purposes);
  const git = HOST_TOOLS.find((entry) => entry.tool === "git");
  const lacksGit = options.needsGit === true && await findTool("git") === undefined;
  if (lacksGit && git !== undefined && !missing.includes(git)) missing.push(git);
  if (missing.length === 0) return;
  const names = missing.map((tool) => tool.tool).join(", ");
  const fix = fixCommand(missing) ?? "";
  if (!options.install && !options.confirm(`Not installed: ${names}. Run "${fix}" now?`)) {
    throw new LocalError("host", `Not installed: ${names}. Add --install, or run: ${fix}`);
  }
  await installMissing(missing, options.onLine);
}
