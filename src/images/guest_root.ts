/**
 * Turns a base system's folder into a guest's: the user that agents run as, the work folder, PID 1, the power
 * module, the agent's files.
 *
 * @module
 */
import { dirname, join } from "node:path";

/** User and group id of `agent`. */
export const AGENT_ID = 1000;

/** What is put into the root. */
export interface GuestParts {
  readonly initPath: string;
  readonly powerModulePath: string;
  readonly textFiles: readonly { readonly to: string; readonly mode: number; readonly content: string }[];
}

/** Completes the root. */
export async function completeRoot(root: string, parts: GuestParts): Promise<void> {
  await addUser(root);
  await place(parts.initPath, join(root, "sbin/paddock-init"), 0o755);
  await place(parts.powerModulePath, join(root, "lib/modules/paddock_power.ko"), 0o644);
  // The kernel runs /sbin/poweroff when the host presses the power button
  for (const name of ["poweroff", "reboot"]) await linkIfMissing(join(root, "sbin", name), "paddock-init");
  for (const file of parts.textFiles) {
    const path = join(root, file.to);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeTextFile(path, file.content);
    await Deno.chmod(path, file.mode);
  }
  await Deno.writeTextFile(
    join(root, "etc/hosts"),
    "127.0.0.1 localhost\n::1 localhost\n172.30.0.1 gateway\n",
  );
  // A name server answers there if the session has one; where it has none, the question is refused.
  await Deno.writeTextFile(join(root, "etc/resolv.conf"), "nameserver 172.30.0.1\n");
  await Deno.mkdir(join(root, "tmp"), { recursive: true });
  // Separate: the umask of this process takes bits off a new folder's mode
  await Deno.chmod(join(root, "tmp"), 0o1777);
}

async function addUser(root: string): Promise<void> {
  const append = { append: true };
  await Deno.writeTextFile(
    join(root, "etc/passwd"),
    `agent:x:${AGENT_ID}:${AGENT_ID}:agent:/home/agent:/bin/bash\n`,
    append,
  );
  await Deno.writeTextFile(join(root, "etc/group"), `agent:x:${AGENT_ID}:\n`, append);
  await Deno.writeTextFile(join(root, "etc/shadow"), "agent:!:20000:0:99999:7:::\n", append);
  await Deno.chmod(join(root, "etc/shadow"), 0o640);
  for (const path of ["home/agent", "workspace"]) {
    await Deno.mkdir(join(root, path), { recursive: true });
    await Deno.chmod(join(root, path), 0o755);
    await Deno.chown(join(root, path), AGENT_ID, AGENT_ID);
  }
}

async function place(from: string, to: string, mode: number): Promise<void> {
  await Deno.mkdir(dirname(to), { recursive: true });
  await Deno.copyFile(from, to);
  await Deno.chmod(to, mode);
}

async function linkIfMissing(path: string, target: string): Promise<void> {
  try {
    await Deno.lstat(path);
  } catch {
    await Deno.symlink(target, path);
  }
}
