// This process as the command line needs it: arguments' folder, environment, standard output, signals, exit.
// Only roles and cli use it: everything else gets what it needs handed in.

import { availableParallelism, totalmem } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

/** An environment variable, `undefined` when unset or empty. */
export function environment(name: string): string | undefined {
  const value = process.env[name];
  return value === "" ? undefined : value;
}

/** Number of this process. */
export const processId = process.pid;

/** Memory of the machine, bytes. */
export function machineMemoryBytes(): number {
  return totalmem();
}

/** Cores that this process may use, 1 at least. */
export function machineCores(): number {
  return Math.max(1, availableParallelism());
}

/** A path as the user wrote it, made absolute from the working folder. */
export function absolutePath(path: string): string {
  return resolve(path);
}

/** Imports a module by its path: for configuration files. Returns its default export. */
export async function importDefault(path: string): Promise<unknown> {
  const module = (await import(pathToFileURL(path).href)) as { default?: unknown };
  return module.default;
}

/** Writes a line to standard output. */
export function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Writes a line to standard error. */
export function printError(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** True when a person looks at standard error (progress bars make sense). */
export function errorIsTerminal(): boolean {
  return process.stderr.isTTY === true;
}

/** Calls `run` at the first SIGTERM or SIGINT; a second one ends the process at once with 130. */
export function onStopSignal(run: (signal: string) => void): void {
  let asked = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (asked) process.exit(130);
      asked = true;
      run(signal);
    });
  }
}

/** The code with which the process ends when nothing is left to do. */
export function setExitCode(code: number): void {
  process.exitCode = code;
}

/** Ends the process now. */
export function exitNow(code: number): never {
  process.exit(code);
}
