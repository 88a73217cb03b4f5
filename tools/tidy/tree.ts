// What the house rules look at: the tracked files as path and text, and what they find.

import { execFileSync } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export interface Finding {
  readonly file: string;
  /** From 1; 1 for a finding about the whole file. */
  readonly line: number;
  readonly rule: string;
  readonly message: string;
}

export interface Tree {
  /** Relative to the root, with forward slashes, sorted. */
  readonly paths: readonly string[];
  /** `undefined` for a binary file or one that is not there. */
  text(path: string): string | undefined;
  has(path: string): boolean;
}

export function treeOf(texts: Readonly<Record<string, string>>): Tree {
  return { paths: Object.keys(texts).sort(), text: (path) => texts[path], has: (path) => Object.hasOwn(texts, path) };
}

/** Files that git tracks or would track; without git all but the ones it would ignore. */
export function readTree(root: string): Tree {
  const paths = listed(root)
    .filter((path) => existsSync(join(root, path)) && statSync(join(root, path)).isFile())
    .sort();
  const known = new Set(paths);
  const texts = new Map<string, string | undefined>();
  return {
    paths,
    has: (path) => known.has(path),
    text(path) {
      if (!known.has(path)) return undefined;
      if (!texts.has(path)) {
        const bytes = readFileSync(join(root, path));
        texts.set(path, bytes.includes(0) ? undefined : bytes.toString("utf8"));
      }
      return texts.get(path);
    },
  };
}

function listed(root: string): string[] {
  try {
    const out = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return out.split("\0").filter(Boolean);
  } catch {
    const ignored = /^(node_modules|dist|data|\.git)(\/|$)|^(kernels|console)\/build\//;
    return globSync("**/*", { cwd: root, exclude: (path) => ignored.test(String(path)) }).concat(globSync(".*", { cwd: root }));
  }
}
