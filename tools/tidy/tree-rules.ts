// Rules over all files together: names, dead files, leftover marks, machine paths, links of documents, the manifest and its dependencies.

import { posix } from "node:path";
import type { House } from "./house.ts";
import { roomOf, type Source } from "./source-rules.ts";
import type { Finding, Tree } from "./tree.ts";

interface Manifest {
  readonly imports?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** The rules' own files name what they forbid. */
const ownFile = /^tools\/tidy(\.test\.ts|\.ts|\/)/;

const bannedNames = /^(utils?|helpers?|common|misc)$/;
const sourceName = /^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*$/;

/** Pattern on a line -> what to do. */
const marks: readonly (readonly [RegExp, string])[] = [
  [/\b(TODO|FIXME|XXX|HACK)\b/, "finish it, or say in words what is missing and why"],
  [/\.only\(|\bonly: true\b/, "a test that runs alone hides the others"],
  [/@ts-(ignore|nocheck)\b/, "mend the type, or use @ts-expect-error with a reason"],
  [/eslint-disable(?!.* -- )/, "say why after ` -- `, or mend the finding"],
];

const machinePath = /(?<![\w.-])\/(home|work|root|Users)\/[\w.]/;
const registryHosts = [
  ["registry", "npmjs", "org"],
  ["registry", "yarnpkg", "com"],
  ["npm", "pkg", "github", "com"],
].map((parts) => parts.join("."));

export function checkTree(tree: Tree, sources: readonly Source[], house: House, registry: string | undefined): Finding[] {
  return [
    ...names(tree, house),
    ...deadFiles(tree, sources, house),
    ...lines(tree, registry),
    ...built(tree),
    ...links(tree),
    ...manifest(tree, sources, house),
  ];
}

function names(tree: Tree, house: House): Finding[] {
  const rooms = new Set(house.floors.flat());
  const findings: Finding[] = [];
  for (const file of tree.paths) {
    const parts = file.split("/");
    const stem = parts.at(-1)!.split(".")[0]!;
    const bad = [...parts.slice(0, -1), stem].find((part) => bannedNames.test(part));
    if (bad !== undefined) findings.push({ file, line: 1, rule: "name", message: `"${bad}" says nothing: name it after its subject` });
    if (/^(src|tools|bench|test)\/.*\.ts$/.test(file) && !sourceName.test(parts.at(-1)!))
      findings.push({ file, line: 1, rule: "name", message: "file names are kebab-case" });
    if (parts[0] !== "src") continue;
    const room = roomOf(file);
    if (room === undefined) findings.push({ file, line: 1, rule: "floor", message: "a file of src stands in a room" });
    else if (!rooms.has(room)) findings.push({ file, line: 1, rule: "floor", message: `room ${room} has no floor: give it one in tools/tidy/house.ts` });
  }
  return findings;
}

/** Files nobody needs. The own test of a file does not keep it alive; a script or worker may be named by a string. */
function deadFiles(tree: Tree, sources: readonly Source[], house: House): Finding[] {
  const scripts = tree.text("package.json") ?? "";
  const findings: Finding[] = [];
  for (const file of tree.paths) {
    const isCode = /^(src|tools|bench|test)\/.*\.(ts|mjs|js)$/.test(file);
    const isStatic = /^src\/.*\.(html|css|json|svg)$/.test(file);
    if ((!isCode && !isStatic) || file.startsWith("test/golden/") || house.entries.some((entry) => entry.test(file)) || scripts.includes(file)) continue;
    const stem = file.replace(/\.\w+$/, "");
    const nameInText = isStatic ? posix.basename(file) : posix.basename(stem);
    const alive = sources.some(
      ({ path, imports, strings }) =>
        path !== file &&
        !new RegExp(`^${stem.replaceAll(".", "\\.")}\\.(test|fuzz|bench)\\.ts$`).test(path) &&
        (imports.includes(file) ||
          strings.some((text) => text === posix.basename(file) || text.includes(`/${nameInText}`) || (isStatic && text.endsWith(nameInText)))),
    );
    if (!alive) findings.push({ file, line: 1, rule: "dead-file", message: "nothing but its own test imports it: use it or remove it" });
  }
  return findings;
}

function lines(tree: Tree, registry: string | undefined): Finding[] {
  const findings: Finding[] = [];
  const hosts = [...registryHosts, ...(registry === undefined ? [] : [registry])];
  for (const file of tree.paths) {
    if (ownFile.test(file)) continue;
    for (const [index, line] of (tree.text(file) ?? "").split("\n").entries()) {
      const at = { file, line: index + 1 };
      if (file !== "package-lock.json") {
        for (const [pattern, todo] of marks) {
          // AssemblyScript's decorators are no TypeScript: editors need the mark.
          if (file.startsWith("kernels/") && pattern.source.startsWith("@ts")) continue;
          const match = pattern.exec(line);
          if (match !== null) findings.push({ ...at, rule: "mark", message: `${match[0]}: ${todo}` });
        }
      }
      const path = machinePath.exec(line);
      if (path !== null) findings.push({ ...at, rule: "machine-path", message: `${path[0]}... exists on one machine only` });
      const host = hosts.find((name) => line.includes(name));
      if (host !== undefined) findings.push({ ...at, rule: "registry-host", message: "names a package registry: leave it to the user's npm configuration" });
    }
  }
  return findings;
}

function built(tree: Tree): Finding[] {
  return tree.paths
    .filter((file) => /\.(wasm|tgz)$|^(dist|data|node_modules)\//.test(file))
    .map((file) => ({ file, line: 1, rule: "built", message: "is built or downloaded, not committed: add it to .gitignore" }));
}

/** GitHub's anchor of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s/g, "-");
}

function anchorsOf(text: string): Set<string> {
  const anchors = new Set([...text.matchAll(/<a (?:id|name)="([^"]+)"/g)].map((match) => match[1]!));
  for (const match of text.matchAll(/^#{1,6}\s+(.*)$/gm)) {
    const anchor = anchorOf(match[1]!);
    let unique = anchor;
    for (let count = 1; anchors.has(unique); count++) unique = `${anchor}-${count}`;
    anchors.add(unique);
  }
  return anchors;
}

function links(tree: Tree): Finding[] {
  const folders = new Set<string>();
  for (const path of tree.paths) for (let folder = posix.dirname(path); folder !== "."; folder = posix.dirname(folder)) folders.add(folder);
  const findings: Finding[] = [];
  for (const file of tree.paths.filter((path) => path.endsWith(".md"))) {
    let fenced = false;
    for (const [index, line] of (tree.text(file) ?? "").split("\n").entries()) {
      if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
      if (fenced) continue;
      const targets = [...line.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)/g), ...line.matchAll(/^\s*\[[^\]]+\]:\s*(\S+)/g)].map((match) => match[1]!);
      for (const target of targets) {
        if (/^[a-z][a-z0-9+.-]*:/i.test(target)) continue;
        const [path = "", anchor] = target.split("#");
        const there = path === "" ? file : posix.normalize(path.startsWith("/") ? path.slice(1) : posix.join(posix.dirname(file), path)).replace(/\/$/, "");
        const at = { file, line: index + 1, rule: "link" };
        if (!tree.has(there) && !folders.has(there)) findings.push({ ...at, message: `${target} is not there` });
        else if (anchor !== undefined && there.endsWith(".md") && !anchorsOf(tree.text(there) ?? "").has(anchor))
          findings.push({ ...at, message: `${target}: no such heading` });
      }
    }
  }
  return findings;
}

function manifest(tree: Tree, sources: readonly Source[], house: House): Finding[] {
  const file = "package.json";
  const text = tree.text(file);
  if (text === undefined) return [{ file, line: 1, rule: "import-map", message: "is not there" }];
  const parsed = JSON.parse(text) as Manifest;
  const lineOf = (word: string): number => Math.max(1, text.split("\n").findIndex((line) => line.includes(`"${word}"`)) + 1);
  const findings: Finding[] = [];

  const rooms = new Set(tree.paths.map(roomOf).filter((room) => room !== undefined));
  for (const room of rooms) {
    const mapped = parsed.imports?.[`#${room}/*`];
    if (mapped !== `./src/${room}/*.ts`)
      findings.push({ file, line: lineOf("imports"), rule: "import-map", message: `lacks "#${room}/*": "./src/${room}/*.ts"` });
  }

  const reasons = tree.text("docs/dependencies.md") ?? "";
  const all = { ...parsed.dependencies, ...parsed.optionalDependencies, ...parsed.devDependencies };
  for (const [name, version] of Object.entries(all)) {
    if (!reasons.includes(`\`${name}\``))
      findings.push({ file, line: lineOf(name), rule: "dependency", message: `${name} has no line of reason in docs/dependencies.md` });
    if (!/^(npm:[a-z][a-z0-9-]*@)?\d+\.\d+\.\d+(-[a-z0-9.]+)?$/.test(version))
      findings.push({ file, line: lineOf(name), rule: "dependency", message: `${name}: name one exact version, not ${version}` });
  }
  const used = new Set(sources.filter(({ path }) => path.startsWith("src/")).flatMap(({ packages }) => packages));
  for (const name of Object.keys(parsed.dependencies ?? {})) {
    if (!used.has(name)) findings.push({ file, line: lineOf(name), rule: "dependency", message: `${name} is imported nowhere in src: remove it` });
  }
  for (const name of Object.keys(house.libraries)) {
    if (parsed.dependencies?.[name] === undefined)
      findings.push({ file, line: lineOf("dependencies"), rule: "dependency", message: `house.libraries names ${name}, which is no dependency` });
  }
  for (const [index, line] of reasons.split("\n").entries()) {
    const name = /^\| `([^`]+)`/.exec(line)?.[1];
    if (name !== undefined && !Object.hasOwn(all, name)) {
      findings.push({ file: "docs/dependencies.md", line: index + 1, rule: "dependency", message: `${name} is no dependency (any more)` });
    }
  }
  return findings;
}
