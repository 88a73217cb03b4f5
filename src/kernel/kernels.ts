// Which kernels run: the choice of a variant, and binding it to a memory.
// Order: relaxed SIMD, SIMD128, scalar TypeScript. A binary that is missing, or that WebAssembly.validate refuses (an older engine does not
// know relaxed SIMD), is passed over with its reason kept, so that a slow start is explained by `kernelReport` and never silent.
// Differences between variants: none but the last bits of f32 scores, where relaxed SIMD may fuse multiply and add. What must be the same on
// every machine compares rows, not scores, or asks for "simd128".
// Cost: the first call of `kernels` in a process reads and compiles them and warms up: some 150 ms of CPU; later calls are a map look-up. MILLRACE_COLD_KERNELS=1 leaves the warm-up out, for
// hundreds of short processes whose first calls may be slow (`npm test`).
// Concurrency: modules are per thread, bound calls too (one thread per lane of a memory, kernel-memory.ts); the memories are shared.

import { MillraceError } from "#base/errors";
import { environment } from "#platform/system-process";
import { readWasmFile } from "#platform/wasm-file";
import { type KernelCalls, kernelCallNames } from "./kernel-calls.ts";
import { bindScalar } from "./scalar-calls.ts";
import { warmUp } from "./warm-up.ts";
import { warmUpParameters } from "./warm-up-parameters.ts";
import { warmUpVectors } from "./warm-up-vectors.ts";
import { webAssembly, type WasmMemory } from "./web-assembly.ts";

/** In order of preference. */
export const kernelVariants = ["relaxed", "simd128", "scalar"] as const;
export type KernelVariant = (typeof kernelVariants)[number];

export interface Kernels {
  readonly variant: KernelVariant;
  /** The calls over one memory, the same object for the same memory. */
  bind(memory: WasmMemory): KernelCalls;
}

export interface KernelReport {
  readonly live: KernelVariant;
  /** Variants that were preferred but cannot run here, and why. Empty when all is well. */
  readonly refused: readonly { readonly variant: KernelVariant; readonly reason: string }[];
}

/** Reads the binary of a variant; `undefined` when there is none. */
export type KernelReader = (file: string) => Uint8Array | undefined;

// The same relative path from src/kernel and, in the built form, from dist/src/kernel.
const buildFolder = new URL("../../kernels/build/", import.meta.url);
const readBuilt: KernelReader = (file) => readWasmFile(new URL(file, buildFolder));

function isKernelCalls(exported: Record<string, unknown>): exported is Record<string, unknown> & KernelCalls {
  return kernelCallNames.every((name) => typeof exported[name] === "function");
}

/** One variant, or the reason why it cannot run here. Does not warm up. */
export function loadVariant(variant: KernelVariant, read: KernelReader = readBuilt): Kernels | string {
  const bound = new WeakMap<WasmMemory, KernelCalls>();
  const once = (memory: WasmMemory, bind: () => KernelCalls): KernelCalls => {
    let calls = bound.get(memory);
    if (calls === undefined) bound.set(memory, (calls = bind()));
    return calls;
  };
  if (variant === "scalar") return { variant, bind: (memory) => once(memory, () => bindScalar(memory)) };

  const api = webAssembly;
  if (api === undefined) return "this engine has no WebAssembly";
  const file = `kernels.${variant}.wasm`;
  const bytes = read(file);
  if (bytes === undefined) return `kernels/build/${file} is missing: npm install builds it`;
  if (!api.validate(bytes)) return `this engine refuses ${file}: it does not know its instructions, or the file is damaged`;
  const module = new api.Module(bytes);
  return {
    variant,
    bind: (memory) =>
      once(memory, () => {
        const { exports } = new api.Instance(module, { env: { memory } });
        if (isKernelCalls(exports)) return exports;
        throw new MillraceError("internal", `${file} does not fit this version of millrace`, { todo: "run node tools/build-kernels.mjs" });
      }),
  };
}

/** The best variant that runs, not warmed up, and why better ones do not. */
export function chooseKernels(read: KernelReader = readBuilt): { kernels: Kernels; report: KernelReport } {
  const refused: { variant: KernelVariant; reason: string }[] = [];
  for (const variant of kernelVariants) {
    const loaded = loadVariant(variant, read);
    if (typeof loaded !== "string") return { kernels: loaded, report: { live: variant, refused } };
    refused.push({ variant, reason: loaded });
  }
  throw new MillraceError("internal", "the scalar kernels did not load");
}

const cold = environment("MILLRACE_COLD_KERNELS") !== undefined;
let chosen: ReturnType<typeof chooseKernels> | undefined;
const forced = new Map<KernelVariant, Kernels>();

function live(): ReturnType<typeof chooseKernels> {
  if (chosen === undefined) {
    chosen = chooseKernels();
    forced.set(chosen.kernels.variant, chosen.kernels);
    if (!cold) warmUp(chosen.kernels);
  }
  return chosen;
}

/**
 * The kernels of this process: the best that run, or the variant asked for (tests, benches, results that must be the same everywhere).
 * Throws `unsupported` when that variant cannot run here.
 */
export function kernels(variant?: KernelVariant): Kernels {
  if (variant === undefined) return live().kernels;
  let known = forced.get(variant);
  if (known === undefined) {
    const loaded = loadVariant(variant);
    if (typeof loaded === "string") throw new MillraceError("unsupported", `kernel variant ${variant} cannot run`, { todo: loaded });
    known = loaded;
    forced.set(variant, known);
    if (!cold) warmUp(known);
  }
  return known;
}

const families = { parameters: warmUpParameters, vectors: warmUpVectors } as const;
const warmed = new Set<keyof typeof families>();

/** The kernels of this process, with those of a family warm too: for a thread that serves parameters or vectors, at its start. The engine keeps one compiled module a process. */
export function warmKernels(family: keyof typeof families): void {
  if (cold || warmed.has(family)) return;
  warmed.add(family);
  families[family](kernels());
}

/** The variant that `kernels()` runs: shown in /stats, metrics and benches. */
export function liveVariant(): KernelVariant {
  return live().report.live;
}

/** The live variant and why better ones were passed over. */
export function kernelReport(): KernelReport {
  return live().report;
}
