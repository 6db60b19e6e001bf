/**
 * Tells processes apart across pid reuse and reboots: a pid, the time it started, and the boot it started in.
 *
 * @module
 */

/** One process, for all time. */
export interface ProcessIdentity {
  readonly pid: number;
  /** start time in clock ticks since boot: field 22 of /proc/PID/stat */
  readonly startTicks: string;
  /** /proc/sys/kernel/random/boot_id */
  readonly bootId: string;
}

/** Start time of a process, or undefined when there is none with this pid. */
function startTicks(pid: number): string | undefined {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The command's name may hold spaces and parentheses; the fields after it do not.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const isGone = fields[0] === "Z" || fields[0] === "X";
    return isGone ? undefined : fields[19];
  } catch {
    // No such process, or it ended while being looked at.
    return undefined;
  }
}

/** The id of this boot of the machine. */
export function bootId(): string {
  return Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
}

/** The identity of this process. */
export function ownIdentity(): ProcessIdentity {
  return { pid: Deno.pid, startTicks: startTicks(Deno.pid) ?? "", bootId: bootId() };
}

/** Whether the process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identity.bootId === bootId() && startTicks(identity.pid) === identity.startTicks;
}
