// Guards the house rules: each has a canary, a small violation that must be found at its line, in a tree that is clean without it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { tidy } from "./tidy.ts";
import { type House, house } from "./tidy/house.ts";
import { treeOf } from "./tidy/tree.ts";

const rules: House = { ...house, libraries: { commander: ["cli"] }, exceptions: [] };

const rooms = ["base", "platform", "pipeline", "kernel", "backbone", "roles", "cli"];
const manifest = {
  imports: Object.fromEntries(rooms.map((room) => [`#${room}/*`, `./src/${room}/*.ts`])),
  scripts: { test: "node tools/run.ts" },
  dependencies: { commander: "15.1.0" },
};

/** Every file is needed by another; nothing is found here. */
const clean: Readonly<Record<string, string>> = {
  "package.json": JSON.stringify(manifest, null, 2),
  "README.md":
    "# House\n\nSee [the plan](docs/plan.md#second-part-a--b), [the rooms](src/), [above](#house), [web](https://example.org/x.md).\n\n```\n[not a link](nowhere.md)\n```\n",
  "docs/plan.md": "# Plan\n\n## Second part: `a` & b\n\n",
  "docs/dependencies.md": "| `commander` | commands |\n",
  "src/base/errors.ts": `// Errors.\nexport const time = (clock: { now(): Date }): Date => new Date(clock.now());\nexport class Timers { setTimeout(): void {} process = 1; }\n`,
  "src/platform/clock.ts": `// Clock.\nimport { performance } from "node:perf_hooks";\nimport "#base/errors";\nexport const now = (): number => performance.now() + Date.now();\n`,
  "src/pipeline/run.ts": `// Runs.\nimport { now } from "#platform/clock";\nexport const run = (process: { pid: number }): number => process.pid + now();\n`,
  "src/pipeline/run.test.ts": `import { test } from "node:test";\nimport { run } from "./run.ts";\n// Guards the order.\ntest("runs", () => { setTimeout(() => run(process), 1); });\n`,
  "src/kernel/scan.ts": `// Scans.\nexport const start = (ending: string): URL => new URL(\`./scan-worker\${ending}\`, import.meta.url);\n`,
  "src/kernel/scan-worker.ts": `// Scans, in a worker.\nexport default 1;\n`,
  "src/backbone/sqlite-registry.ts": `// Registry.\nimport { DatabaseSync } from "node:sqlite";\nexport const open = (): unknown => DatabaseSync;\n`,
  "src/roles/server.ts": `// Wiring.\nimport "#kernel/scan";\nimport "#pipeline/run";\nimport "#backbone/sqlite-registry";\nconsole.log(process.pid);\n`,
  "src/cli/main.ts": `// Commands.\nimport { Command } from "commander";\nimport "#roles/server";\nexport default Command;\n`,
  "tools/run.ts": `// Runs the tests.\nimport "node:fs";\n`,
};

function found(changes: Readonly<Record<string, string>>, used: House = rules): string[] {
  return tidy(treeOf({ ...clean, ...changes }), used, "packages.example.net").map(({ file, line, rule }) => `${rule} ${file}:${line}`);
}

/** The clean file with a line put after its first. */
function withLine(path: string, line: string): Record<string, string> {
  const [first, ...rest] = clean[path]!.split("\n");
  return { [path]: [first, line, ...rest].join("\n") };
}

function inManifest(change: object): Record<string, string> {
  return { "package.json": JSON.stringify({ ...manifest, ...change }, null, 2) };
}

test("a clean tree has no findings", () => {
  assert.deepEqual(tidy(treeOf(clean), rules), []);
});

const pipeline = "src/pipeline/run.ts";
const at2 = (rule: string, path = pipeline): string[] => [`${rule} ${path}:2`];

/** What is planted -> what must be found, and nothing else. */
const canaries: readonly (readonly [string, Record<string, string>, string[]])[] = [
  ["an import from a higher floor", withLine("src/base/errors.ts", `import "#pipeline/run";`), at2("floor", "src/base/errors.ts")],
  ["an import from the same floor", withLine(pipeline, `import "#kernel/scan";`), at2("floor")],
  ["a type from a higher floor", withLine(pipeline, `type X = import("#roles/server").X;`), at2("floor")],
  ["a dynamic import from a higher floor", withLine(pipeline, `await import("#roles/server");`), at2("floor")],
  ["an import from a room that is not", withLine(pipeline, `import "#cellar/wine";`), at2("floor")],
  ["an import from outside src", withLine(pipeline, `import "../../tools/run.ts";`), at2("floor")],
  [
    "a room without a floor",
    { "src/cellar/wine.ts": "// Wine.\n", ...withLine("tools/run.ts", `import "../src/cellar/wine.ts";`) },
    ["import-map package.json:2", "floor src/cellar/wine.ts:1"],
  ],
  ["a file of no room", { "src/loose.ts": "// Loose.\n", ...withLine("tools/run.ts", `import "../src/loose.ts";`) }, ["floor src/loose.ts:1"]],
  ["a relative import of another room", withLine(pipeline, `import "../base/errors.ts";`), at2("import-form")],
  ["an extension in an import between rooms", withLine("src/roles/server.ts", `import "#kernel/scan.ts";`), at2("import-form", "src/roles/server.ts")],
  ["a room that imports itself by its map name", withLine("src/kernel/scan.ts", `import "#kernel/scan-worker";`), at2("import-form", "src/kernel/scan.ts")],
  ["a builtin without node:", withLine("src/platform/clock.ts", `import "fs";`), at2("import-form", "src/platform/clock.ts")],
  ["a node: import outside platform", withLine(pipeline, `import "node:fs";`), at2("node-import")],
  ["node:sqlite in another file", withLine(pipeline, `import "node:sqlite";`), at2("node-import")],
  ["a library in the wrong room", withLine(pipeline, `import "commander";`), at2("library")],
  ["a library that is none", withLine(pipeline, `import "fast-check";`), at2("library")],
  ...[
    "Date.now()",
    "new Date()",
    "new Date",
    "Date()",
    "performance.now()",
    "Math.random()",
    "setTimeout(() => {}, 1)",
    "setInterval(() => {}, 1)",
    "setImmediate(() => {})",
    "globalThis.setTimeout(() => {}, 1)",
    "AbortSignal.timeout(5)",
    "crypto.randomUUID()",
    "console.log(1)",
    "fetch('http://localhost')",
    "new Worker('x')",
    "new WebSocket('x')",
    "require('x')",
    "[setTimeout]",
    "{ timer: setTimeout }",
  ].map((code): [string, Record<string, string>, string[]] => [
    `banned: ${code}`,
    withLine(pipeline, `export const bad = (): unknown => (${code});`),
    at2("ban"),
  ]),
  ["banned: process", withLine("src/kernel/scan.ts", "export const pid = process.pid;"), at2("ban", "src/kernel/scan.ts")],
  ["a timer in a room that may print", withLine("src/roles/server.ts", "setTimeout(() => {}, 1);"), at2("ban", "src/roles/server.ts")],
  ["an enum", withLine(pipeline, "export enum Colour { red }"), at2("erasable")],
  ["a namespace", withLine(pipeline, "export namespace Paint { export const red = 1; }"), at2("erasable")],
  ["a parameter property", withLine(pipeline, "export class Point { constructor(readonly x: number) {} }"), at2("erasable")],
  ["an angle assertion", withLine(pipeline, "export const one = <number>1;"), at2("erasable")],
  ["import =", withLine(pipeline, `import old = require("old");`), at2("erasable")],
  ["a decorator", withLine(pipeline, "@sealed export class Box {}"), at2("erasable")],
  [
    "a file that only its own test imports",
    { "src/base/heap.ts": "// Heap.\n", "src/base/heap.test.ts": `// Heap.\nimport "node:test";\nimport "./heap.ts";\n` },
    ["dead-file src/base/heap.ts:1"],
  ],
  ["a page that nobody names", { "src/roles/page.html": "<p>" }, ["dead-file src/roles/page.html:1"]],
  ["a tool that no script runs", { "tools/old.ts": "// Old.\n" }, ["dead-file tools/old.ts:1"]],
  ...["TODO", "FIXME", "XXX", "HACK"].map((word): [string, Record<string, string>, string[]] => [
    `a ${word}`,
    withLine(pipeline, `// ${word} later`),
    at2("mark"),
  ]),
  ["a mark in a document", { "docs/plan.md": clean["docs/plan.md"]! + "TODO\n" }, ["mark docs/plan.md:5"]],
  [
    "a test that runs alone",
    { "src/pipeline/run.test.ts": clean["src/pipeline/run.test.ts"]!.replace("test(", "test.only(") },
    ["mark src/pipeline/run.test.ts:4"],
  ],
  ["a silenced type error", withLine(pipeline, "// @ts-ignore because"), at2("mark")],
  ["a silenced lint finding without a reason", withLine(pipeline, "// eslint-disable-next-line eqeqeq"), at2("mark")],
  [
    "a file named after nothing",
    { "src/base/utils.ts": "// Things.\n", ...withLine("src/roles/server.ts", `import "#base/utils";`) },
    ["name src/base/utils.ts:1"],
  ],
  ["a folder named after nothing", { "docs/misc/x.md": "# X\n" }, ["name docs/misc/x.md:1"]],
  ["camel case", { "src/base/bigHeap.ts": "// Heap.\n", ...withLine("src/roles/server.ts", `import "#base/bigHeap";`) }, ["name src/base/bigHeap.ts:1"]],
  ["a broken link", { "docs/plan.md": clean["docs/plan.md"]! + "[gone](gone.md)\n" }, ["link docs/plan.md:5"]],
  ["a link to a heading that is not", { "docs/plan.md": clean["docs/plan.md"]! + "[gone](../README.md#third)\n" }, ["link docs/plan.md:5"]],
  ["a machine's path", withLine(pipeline, `// see /home/me/notes`), at2("machine-path")],
  ["a machine's path in data", { "docs/x.json": `{ "at": "file:///${"root"}/x" }` }, ["machine-path docs/x.json:1"]],
  ["the registry in use", { "package-lock.json": `{\n"resolved": "https://packages.example.net/x.tgz" }` }, ["registry-host package-lock.json:2"]],
  [
    "a known registry",
    { "package-lock.json": `{\n"resolved": "https://${["registry", "npmjs", "org"].join(".")}/x.tgz" }` },
    ["registry-host package-lock.json:2"],
  ],
  ["a committed kernel", { "kernels/build/scan.wasm": "" }, ["built kernels/build/scan.wasm:1"]],
  ["a committed build", { "dist/x.js": "" }, ["built dist/x.js:1"]],
  ["a source without a head", { [pipeline]: clean[pipeline]!.replace("// Runs.\n", "") }, [`head ${pipeline}:1`]],
  [
    "a test without its promise",
    { "src/pipeline/run.test.ts": clean["src/pipeline/run.test.ts"]!.replace("// Guards the order.\n", "") },
    ["head src/pipeline/run.test.ts:1"],
  ],
  ["a test that tests nothing", { "src/pipeline/run.test.ts": "// Guards.\n" }, ["test-import src/pipeline/run.test.ts:1"]],
  ["a room that the import map lacks", inManifest({ imports: { ...manifest.imports, "#base/*": "./src/base/*.js" } }), ["import-map package.json:2"]],
  ["a dependency without a reason", { "docs/dependencies.md": "" }, ["dependency package.json:15"]],
  [
    "a reason without a dependency",
    { "docs/dependencies.md": clean["docs/dependencies.md"]! + "| `left-pad` | pads |\n" },
    ["dependency docs/dependencies.md:2"],
  ],
  ["a version range", inManifest({ dependencies: { commander: "^15.1.0" } }), ["dependency package.json:15"]],
  ["a dependency that nobody imports", { "src/cli/main.ts": `// Commands.\nimport "#roles/server";\n` }, ["dependency package.json:15"]],
];

for (const [name, changes, expected] of canaries) {
  test(`found: ${name}`, () => assert.deepEqual(found(changes), expected));
}

test("an exception silences its finding, and is one itself when nothing needs it", () => {
  const exceptions = [{ rule: "ban", file: pipeline, reason: "for this test" }];
  assert.deepEqual(found(withLine(pipeline, "export const bad = Date.now();"), { ...rules, exceptions }), []);
  assert.deepEqual(found({}, { ...rules, exceptions }), [`exception ${pipeline}:1`]);
});

test("a library of the house that is no dependency is found", () => {
  assert.deepEqual(found({}, { ...rules, libraries: { ...rules.libraries, pino: ["roles"] } }), ["dependency package.json:14"]);
});

test("every rule has a canary", () => {
  const text = ["tidy.ts", "tidy/source-rules.ts", "tidy/tree-rules.ts"].map((file) => readFileSync(join(import.meta.dirname, file), "utf8")).join("\n");
  const declared = new Set([...text.matchAll(/rule: "([a-z-]+)"|find\(\s*node,\s*"([a-z-]+)"/g)].map((match) => match[1] ?? match[2]!));
  const proven = new Set([...canaries.flatMap(([, , expected]) => expected), "exception"].map((line) => line.split(" ")[0]!));
  assert.deepEqual([...declared].sort(), [...proven].sort());
});
