// Other libraries that benches compare with, fetched when first asked for into node_modules/.cache/millrace-peers: never dependencies of millrace.
// A peer that cannot be had (no network, no python3) is a value with its reason, and the bench says that it is missing.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

export const peerFolder = join(import.meta.dirname, "../../node_modules/.cache/millrace-peers");

export type Peer = { readonly path: string } | { readonly missing: string };

/** Long enough for the largest of them (some 300 MB) on a slow line. */
const fetchMs = 900_000;

function fetched(command: string, args: readonly string[]): string | undefined {
  try {
    execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"], timeout: fetchMs });
    return undefined;
  } catch (failure) {
    return `${command} ${args[0]} failed: ${failure instanceof Error ? (failure.message.split("\n").at(-1) ?? "") : String(failure)}`;
  }
}

/** Folder of an npm package of this version. */
export function npmPeer(name: string, version: string): Peer {
  const prefix = join(peerFolder, "npm");
  const path = join(prefix, "node_modules", name);
  const isThere = (): boolean => {
    try {
      return (JSON.parse(readFileSync(join(path, "package.json"), "utf8")) as { version: string }).version === version;
    } catch {
      return false;
    }
  };
  if (isThere()) return { path };
  mkdirSync(prefix, { recursive: true });
  const why = fetched("npm", ["install", "--prefix", prefix, "--no-audit", "--no-fund", `${name}@${version}`]);
  return isThere() ? { path } : { missing: why ?? `${name}@${version} is not where npm put it` };
}

/** What an npm peer exports. */
export function requirePeer<Exports>(name: string): Exports {
  return createRequire(join(peerFolder, "npm", "package.json"))(name) as Exports;
}

/** A python that has these packages (`name==version`). */
export function pythonPeer(packages: readonly string[]): Peer {
  const folder = join(peerFolder, "python");
  const path = join(folder, "bin", "python");
  const check = [
    "-c",
    "import sys, importlib.metadata as m; [sys.exit(1) for p in sys.argv[1:] if m.version(p.split('==')[0]) != p.split('==')[1]]",
    ...packages,
  ];
  if (existsSync(path) && fetched(path, check) === undefined) return { path };
  const why = fetched("python3", ["-m", "venv", folder]) ?? fetched(path, ["-m", "pip", "install", "--quiet", ...packages]) ?? fetched(path, check);
  return why === undefined ? { path } : { missing: why };
}
