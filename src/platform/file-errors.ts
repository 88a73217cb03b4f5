// The errors of the file system, the same for the machine's files and their simulated twin: one table from the system's code to ours.

import { MillraceError } from "#base/errors";

/** `action` and `path` say what was refused; `code` is the system's (`ENOSPC`). */
export function refusedByFileSystem(action: string, path: string, code: string, cause?: unknown): MillraceError {
  const of = (ours: "unavailable" | "invalid", why: string, todo: string): MillraceError =>
    new MillraceError(ours, `cannot ${action} ${path}, ${why}`, { cause, todo });
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return of("unavailable", "the disk is full", "free space, then restart");
    case "EMFILE":
    case "ENFILE":
      return of("unavailable", "too many open files", "raise the limit of open files (ulimit -n)");
    case "ENOENT":
      return of("unavailable", "there is no such file or folder", "look whether the folder was moved or removed, then restart");
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return of("invalid", "permission denied", "give this user the right, or name another folder");
    case "EBADF":
      return of("invalid", "the file is closed or not open for this", "open it in the right mode and use it before it is closed");
    case "EISDIR":
      return of("invalid", "it is a folder", "name another path");
    case "ENOTDIR":
      return of("invalid", "a part of the path is a file", "name another path");
    case "ENOTEMPTY":
    case "EEXIST":
      return of("invalid", "it is already there", "name another path");
    case "EINVAL":
    case "ENAMETOOLONG":
    case "ERR_INVALID_ARG_VALUE":
      return of("invalid", `the path or position cannot be (${code})`, "name another path");
    default:
      return of("unavailable", `the system answered ${code === "" ? "with an unknown error" : code}`, "check the disk");
  }
}
