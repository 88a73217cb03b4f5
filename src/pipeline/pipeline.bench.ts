// What the framework costs: one request (2,000 candidates, 300 seen, 3 joins, weighted score, top 50) run as a pipeline, by hand over typed arrays, and over
// plain objects (copied at each step, or mutated). All variants must answer with the same 50 items.
// Run: `node src/pipeline/pipeline.bench.ts [rounds]`. CPU time, variants in alternating rounds, the least of the rounds; ratios carry over between machines.

import { systemClock } from "#platform/system-clock";
import { Runner, filter, hydrate, pipeline, score, source, topK } from "./index.ts";

const candidates = 2_000;
const catalogueSize = 20_000;
const chosen = 50;

interface Request {
  readonly ids: Uint32Array;
  readonly sim: Float32Array;
  readonly seen: ReadonlySet<number>;
}

/** A number from 0 to 1 for each index; a fixed hash, so that every run has the same world. */
function unit(index: number, salt: number): number {
  let x = Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(salt, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  return ((x ^ (x >>> 12)) >>> 0) / 2 ** 32;
}

const column = (salt: number): Float32Array => Float32Array.from({ length: catalogueSize }, (_, i) => unit(i, salt));
const popularity = column(1);
const price = column(2);
const quality = column(3);

function requestOf(number: number): Request {
  const ids = new Uint32Array(candidates);
  const sim = new Float32Array(candidates);
  const seen = new Set<number>();
  // A stride coprime to the size of the catalogue: distinct ids, in no order.
  for (let i = 0; i < candidates; i++) {
    ids[i] = (number * 977 + i * 7_919) % catalogueSize;
    sim[i] = unit(ids[i]!, 100 + number);
    if (i % 7 === 3 && seen.size < 300) seen.add(ids[i]!);
  }
  return { ids, sim, seen };
}

// --- as a pipeline --------------------------------------------------------------------------------------------------------------------------------------

const recall = source<Request>()("recall", { sim: "f32" }, (ctx, emit) => {
  const out = emit(ctx.req.ids.length);
  out.id.set(ctx.req.ids);
  out.sim.set(ctx.req.sim);
});
const unseen = filter<Request>()("unseen", {}, (ctx, batch, keep) => {
  const { seen } = ctx.req;
  const { id, n } = batch;
  for (let i = 0; i < n; i++) keep[i] = seen.has(id[i]!) ? 0 : 1;
});
function join(values: Float32Array, id: Uint32Array, to: Float32Array): void {
  for (let i = 0; i < id.length; i++) to[i] = values[id[i]!]!;
}
const popularities = hydrate<Request>()("popularities", {}, { popularity: "f32" }, (_ctx, batch, out) => join(popularity, batch.id, out.popularity));
const prices = hydrate<Request>()("prices", {}, { price: "f32" }, (_ctx, batch, out) => join(price, batch.id, out.price));
const qualities = hydrate<Request>()("qualities", {}, { quality: "f32" }, (_ctx, batch, out) => join(quality, batch.id, out.quality));
const weigh = score<Request>()("weigh", { sim: "f32", popularity: "f32", price: "f32", quality: "f32" }, { score: "f32" }, (_ctx, batch, out) => {
  const a = batch.col("sim");
  const b = batch.col("popularity");
  const c = batch.col("price");
  const d = batch.col("quality");
  for (let i = 0; i < batch.n; i++) out.score[i] = 2 * a[i]! + b[i]! - 0.5 * c[i]! + 0.25 * d[i]!;
});
const flow = pipeline<Request>("bench")
  .recall([recall])
  .filter(unseen)
  .hydrate(popularities)
  .hydrate(prices)
  .hydrate(qualities)
  .score(weigh)
  .select(chosen, topK())
  .build();
const runner = new Runner({ clock: systemClock });
const asPipeline = async (request: Request): Promise<readonly number[]> => Array.from((await runner.run(flow, request)).ids);

// --- by hand ------------------------------------------------------------------------------------------------------------------------------------------

/** Best first, equal scores in the order of recall: the order of `topK`. */
const byScore = (a: { score: number; at: number }, b: { score: number; at: number }): number => b.score - a.score || a.at - b.at;

function copiedObjects({ ids, sim, seen }: Request): readonly number[] {
  return Array.from(ids, (id, at) => ({ id, at, sim: sim[at]! }))
    .filter((row) => !seen.has(row.id))
    .map((row) => ({ ...row, popularity: popularity[row.id]! }))
    .map((row) => ({ ...row, price: price[row.id]! }))
    .map((row) => ({ ...row, quality: quality[row.id]! }))
    .map((row) => ({ ...row, score: Math.fround(2 * row.sim + row.popularity - 0.5 * row.price + 0.25 * row.quality) }))
    .sort(byScore)
    .slice(0, chosen)
    .map((row) => row.id);
}

interface Row {
  readonly id: number;
  readonly at: number;
  readonly sim: number;
  popularity: number;
  price: number;
  quality: number;
  score: number;
}

function scoredObjects({ ids, sim, seen }: Request): Row[] {
  let rows = Array.from(ids, (id, at): Row => ({ id, at, sim: sim[at]!, popularity: 0, price: 0, quality: 0, score: 0 }));
  rows = rows.filter((row) => !seen.has(row.id));
  for (const row of rows) row.popularity = popularity[row.id]!;
  for (const row of rows) row.price = price[row.id]!;
  for (const row of rows) row.quality = quality[row.id]!;
  for (const row of rows) row.score = Math.fround(2 * row.sim + row.popularity - 0.5 * row.price + 0.25 * row.quality);
  return rows;
}

const sortedObjects = (request: Request): readonly number[] =>
  scoredObjects(request)
    .sort(byScore)
    .slice(0, chosen)
    .map((row) => row.id);

/** The same objects with a selection as cheap as the pipeline's, so that the difference left is the layout alone. */
function selectedObjects(request: Request): readonly number[] {
  const best: Row[] = [];
  for (const row of scoredObjects(request)) {
    if (best.length === chosen && row.score <= best[chosen - 1]!.score) continue;
    let at = best.length;
    while (at > 0 && best[at - 1]!.score < row.score) at--;
    best.splice(at, 0, row);
    if (best.length > chosen) best.pop();
  }
  return best.map((row) => row.id);
}

/** The floor: one fused loop over arrays that are kept between requests, and a bounded insertion for the top 50. */
const fusedScores = new Float32Array(candidates);
function fusedArrays({ ids, sim, seen }: Request): readonly number[] {
  const best: number[] = [];
  let threshold = -Infinity;
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (seen.has(id)) continue;
    const value = Math.fround(2 * sim[i]! + popularity[id]! - 0.5 * price[id]! + 0.25 * quality[id]!);
    fusedScores[i] = value;
    if (best.length === chosen && value <= threshold) continue;
    let at = best.length;
    while (at > 0 && fusedScores[best[at - 1]!]! < value) at--;
    best.splice(at, 0, i);
    if (best.length > chosen) best.pop();
    threshold = best.length === chosen ? fusedScores[best[chosen - 1]!]! : -Infinity;
  }
  return best.map((row) => ids[row]!);
}

/** Every step an empty loop: what calling, tracing and timing 7 steps cost without the work. */
const nothing = pipeline<Request>("nothing")
  .recall([source<Request>()("none", { sim: "f32" }, (_ctx, emit) => void emit(0))])
  .filter(unseen)
  .hydrate(popularities)
  .hydrate(prices)
  .hydrate(qualities)
  .score(weigh)
  .select(chosen, topK())
  .build();

const variants = {
  "objects copied at each step": copiedObjects,
  "objects of fixed shape, mutated": sortedObjects,
  "the same, bounded insertion for sort": selectedObjects,
  pipeline: asPipeline,
  "typed arrays by hand, one fused loop": fusedArrays,
  "pipeline of 7 steps over no rows": async (request: Request): Promise<readonly number[]> => Array.from((await runner.run(nothing, request)).ids),
} as const;
export type Variant = keyof typeof variants;

/** CPU microseconds a request by variant, the least of `rounds` rounds of `requests` requests. Throws when answers differ. */
export async function measurePipeline(rounds: number, requests: number): Promise<Record<Variant, number>> {
  const inputs = Array.from({ length: 20 }, (_, i) => requestOf(i));
  const least = Object.fromEntries(Object.keys(variants).map((name) => [name, Infinity])) as Record<Variant, number>;
  for (const input of inputs) {
    const expected = copiedObjects(input).join();
    for (const [name, run] of Object.entries(variants)) {
      if (name !== "pipeline of 7 steps over no rows" && (await run(input)).join() !== expected)
        throw new Error(`${name} answers otherwise than copied objects`);
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(variants) as [Variant, (request: Request) => readonly number[] | Promise<readonly number[]>][]) {
      const before = process.cpuUsage();
      let checksum = 0;
      for (let i = 0; i < requests; i++) checksum += (await run(inputs[i % inputs.length]!)).length;
      const { user, system } = process.cpuUsage(before);
      if (checksum !== (name === "pipeline of 7 steps over no rows" ? 0 : requests * chosen)) throw new Error(`${name} gave ${checksum} rows`);
      least[name] = Math.min(least[name], (user + system) / requests);
    }
  }
  return least;
}

if (import.meta.main) {
  const rounds = Number(process.argv[2] ?? 15);
  const micros = await measurePipeline(rounds, 300);
  for (const [name, value] of Object.entries(micros)) {
    console.log(`${name.padEnd(38)} ${value.toFixed(0).padStart(6)} us CPU a request   ${(value / micros.pipeline).toFixed(2)} x pipeline`);
  }
  console.log(`Node ${process.version}, least of ${rounds} rounds of 300 requests, answers equal`);
}
