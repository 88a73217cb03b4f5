// Builds the WebAssembly kernels into kernels/build (never committed). npm runs it as `prepare`, after every `npm install`.
// Plain JavaScript that Node 20 runs: at this moment npm may still be running under the machine's own Node.
// Does nothing when the binaries match their sources (a few milliseconds), and nothing when AssemblyScript is not installed: a packed
// millrace brings its binaries, and without binaries the kernels run as plain TypeScript (slower, same answers).
// Invariant: a binary never holds a data segment or a start function. Each instance that joins a shared memory would run it again and
// overwrite what the others hold.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = join(root, "kernels");
const out = join(sources, "build");
const stampFile = join(out, "stamp.txt");

const common = ["-O3", "--noAssert", "--runtime", "stub", "--importMemory", "--sharedMemory", "--maximumMemory", "65536", "--noExportMemory"];
const simd128 = [...common, "--enable", "simd,threads"];
const relaxed = [...common, "--enable", "simd,threads,relaxed-simd"];
const binaries = [
  { file: "kernels.simd128.wasm", entry: "index.ts", flags: simd128 },
  { file: "kernels.relaxed.wasm", entry: "index.ts", flags: relaxed },
  { file: "memory-floor.simd128.wasm", entry: "memory-floor.ts", flags: simd128 },
];

function sourceFiles() {
  if (!existsSync(sources)) return [];
  return readdirSync(sources)
    .filter((name) => name.endsWith(".ts"))
    .sort();
}

/** Changes whenever a source, a flag or the compiler changes. */
function stampOf(compilerVersion) {
  const hash = createHash("sha256");
  hash.update(JSON.stringify({ compilerVersion, binaries }));
  for (const name of sourceFiles()) hash.update(`\n${name}\n`).update(readFileSync(join(sources, name)));
  return hash.digest("hex");
}

function compilerVersion() {
  try {
    return JSON.parse(readFileSync(join(root, "node_modules", "assemblyscript", "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}

/** Ids of the sections of a binary. */
function sectionIds(bytes) {
  const ids = [];
  for (let at = 8; at < bytes.length;) {
    ids.push(bytes[at++]);
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      size += (byte & 127) * 2 ** shift;
      if (byte < 128) break;
    }
    at += size;
  }
  return ids;
}

async function build() {
  if (sourceFiles().length === 0) return;
  const version = compilerVersion();
  const missing = binaries.filter(({ file }) => !existsSync(join(out, file)));
  if (version === undefined) {
    if (missing.length > 0) {
      console.log(
        "kernels: not built, AssemblyScript is not installed; millrace runs with the slower TypeScript kernels. To build them: npm install --include=dev",
      );
    }
    return;
  }
  const stamp = stampOf(version);
  if (missing.length === 0 && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;

  const started = Date.now();
  const { default: asc } = await import("assemblyscript/asc");
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, ".gitignore"), "*\n");
  for (const { file, entry, flags } of binaries) {
    // Beside, then renamed: a process that starts meanwhile reads the old binary or the new one, never half of one.
    const beside = `${file}.${process.pid}.tmp`;
    let messages = "";
    const sink = { write: (chunk) => ((messages += String(chunk)), true) };
    const { error } = await asc.main([entry, "--baseDir", sources, "-o", join("build", beside), ...flags], { stdout: sink, stderr: sink });
    if (error) {
      rmSync(join(out, beside), { force: true });
      throw new Error(`${file} does not compile:\n${messages.trim() || error.message}`);
    }
    const ids = sectionIds(readFileSync(join(out, beside)));
    if (ids.includes(11) || ids.includes(8)) {
      rmSync(join(out, beside), { force: true });
      throw new Error(`${file} holds static data or a start function, which a shared memory does not allow: keep state at addresses that the host passes`);
    }
    renameSync(join(out, beside), join(out, file));
  }
  writeFileSync(stampFile, stamp);
  console.log(`kernels: built ${binaries.length} binaries in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

build().catch((error) => {
  console.error(`kernels: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
