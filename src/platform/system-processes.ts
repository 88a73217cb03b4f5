// The machine's processes. See processes.ts for the contract.
// Linux: boot id and pid namespace say whose numbering it is, /proc tells the start time. Elsewhere the host name stands for both and only a pid that
// nobody has counts as gone.
// Cost: one or two small reads of /proc a question (about 20 us), synchronous because they never touch a disk.

import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import type { Processes } from "./processes.ts";

function spaceOf(): string {
  try {
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}.${readlinkSync("/proc/self/ns/pid").replace(/\D/g, "")}`;
  } catch {
    return hostname().slice(0, 100);
  }
}

/** Clock ticks from boot to the start of a process; `undefined` when the system does not tell, "gone" when it has ended. */
function startOf(pid: number): string | undefined | "gone" {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The second field is the program's name in parentheses and may hold anything, also spaces.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? "gone" : fields[19];
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EPERM";
  }
}

const space = spaceOf();

export const systemProcesses: Processes = {
  self: `${space}:${process.pid}:${startOf(process.pid) ?? ""}`,
  isGone(owner) {
    const [ownerSpace, pidText, start] = owner.split(":");
    const pid = Number(pidText);
    if (ownerSpace !== space || !Number.isInteger(pid) || pid <= 0) return false;
    if (!exists(pid)) return true;
    const now = startOf(pid);
    return now === "gone" || (now !== undefined && start !== "" && now !== start);
  },
};
