// The kernels' build is part of `npm install`: it must be quick when there is nothing to do, quiet where it cannot build, and clear when it fails.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "millrace-kernels-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A tree with the tool alone, or with sources, binaries and compiler as well. */
function tree(name: string, has: { sources?: boolean; binaries?: boolean; compiler?: boolean }): string {
  const at = join(folder, name);
  mkdirSync(join(at, "tools"), { recursive: true });
  cpSync(join(root, "tools/build-kernels.mjs"), join(at, "tools/build-kernels.mjs"));
  writeFileSync(join(at, "package.json"), "{}");
  if (has.sources === true)
    cpSync(join(root, "kernels"), join(at, "kernels"), { recursive: true, filter: (from) => has.binaries === true || !from.includes("build") });
  if (has.compiler === true) symlinkSync(join(root, "node_modules"), join(at, "node_modules"));
  return at;
}

function build(at: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(at, "tools/build-kernels.mjs")], { encoding: "utf8" });
  return { status, output: stdout + stderr };
}

const binaries = ["kernels.relaxed.wasm", "kernels.simd128.wasm", "memory-floor.simd128.wasm"];

test("without sources, or with binaries but no compiler, there is nothing to do and nothing is said", () => {
  assert.deepEqual(build(tree("packed", {})), { status: 0, output: "" });
  assert.deepEqual(build(tree("built", { sources: true, binaries: true })), { status: 0, output: "" });
});

test("without binaries and compiler it says what that means and how to change it, and the install goes on", () => {
  const { status, output } = build(tree("bare", { sources: true }));
  assert.equal(status, 0);
  assert.match(output, /^kernels: not built, AssemblyScript is not installed; .* npm install --include=dev\n$/);
});

test("it builds what is missing, then has nothing to do, then builds again when a source changed", () => {
  const at = tree("fresh", { compiler: true });
  // Small sources: this is about the tool, and the real ones take seconds.
  mkdirSync(join(at, "kernels"));
  const tiny = "export function one(): u32 { return 1; }\n";
  for (const entry of ["index.ts", "memory-floor.ts"]) writeFileSync(join(at, "kernels", entry), tiny);
  const first = build(at);
  assert.equal(first.status, 0, first.output);
  assert.deepEqual(readdirSync(join(at, "kernels/build")).sort(), [".gitignore", ...binaries, "stamp.txt"].sort());
  const made = statSync(join(at, "kernels/build/kernels.simd128.wasm")).mtimeMs;
  assert.deepEqual(build(at), { status: 0, output: "" });
  assert.equal(statSync(join(at, "kernels/build/kernels.simd128.wasm")).mtimeMs, made);

  writeFileSync(join(at, "kernels/index.ts"), "export function one(): u32 { return notThere; }\n");
  const broken = build(at);
  assert.equal(broken.status, 1);
  assert.match(broken.output, /kernels: kernels\.simd128\.wasm does not compile:[\s\S]*notThere/);
  assert.doesNotMatch(broken.output, /\n\s+at .*build-kernels/, "no stack trace");
  assert.ok(existsSync(join(at, "kernels/build/kernels.simd128.wasm")), "the old binary stays");
  assert.deepEqual(
    readdirSync(join(at, "kernels/build")).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

test("a kernel with static data is refused: shared memories would lose their contents to it", () => {
  const at = tree("static", { compiler: true });
  mkdirSync(join(at, "kernels"));
  writeFileSync(join(at, "kernels/index.ts"), "const table = memory.data<u32>([1, 2, 3]);\nexport function first(): u32 { return load<u32>(table); }\n");
  const { status, output } = build(at);
  assert.equal(status, 1);
  assert.match(output, /kernels: kernels\.simd128\.wasm holds static data/);
});
