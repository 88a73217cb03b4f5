// What every VectorService does, whoever implements it: the engine over its thread, the plain one of tests, and what stands before them (served-collections.ts).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { SearchAnswer, VectorMetric, VectorService } from "./vector-service.ts";

export interface OpenedService {
  readonly service: VectorService;
  close(): Promise<void> | void;
}

const seed = Number(process.env["SEED"] ?? 1);

function refused(code: string): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof MillraceError && thrown.code === code;
}

/** Elements of query `q`, best first. */
function namesOf(answer: SearchAnswer | undefined, q = 0): readonly string[] {
  assert.ok(answer !== undefined);
  return answer.elements.slice(answer.from[q], answer.from[q + 1]);
}

function scoresOf(answer: SearchAnswer | undefined, q = 0): number[] {
  assert.ok(answer !== undefined);
  return [...answer.scores.subarray(answer.from[q], answer.from[q + 1])];
}

function near(found: readonly number[], expected: readonly number[]): void {
  assert.equal(found.length, expected.length);
  for (const [i, one] of found.entries()) assert.ok(Math.abs(one - expected[i]!) < 1e-4, `${one} where ${expected[i]!} was expected`);
}

/** Registers the suite; `open` makes a service without collections. */
export function vectorServiceContract(name: string, open: () => Promise<OpenedService> | OpenedService): void {
  let opened: OpenedService;
  let service: VectorService;
  let made = 0;

  before(async () => {
    opened = await open();
    ({ service } = opened);
  });
  after(async () => {
    await opened.close();
  });

  /** A collection of its own for each test. */
  async function collection(dims: number, metric: VectorMetric = "cosine"): Promise<string> {
    const its = `c${++made}`;
    assert.equal(await service.create(its, { dims, metric }), true);
    return its;
  }

  const put = async (its: string, rows: Readonly<Record<string, readonly number[]>>, attributes?: readonly (string | undefined)[]): Promise<number[]> => [
    ...((await service.upsert(its, {
      elements: Object.keys(rows),
      vectors: Float32Array.from(Object.values(rows).flat()),
      ...(attributes === undefined ? {} : { attributes }),
    })) ?? []),
  ];

  test(`${name}: a collection is made once, of one shape`, async () => {
    const its = await collection(2);
    assert.deepEqual(service.shapeOf(its), { dims: 2, metric: "cosine" });
    assert.ok(service.names().includes(its));
    const changed = service.namesChanged;
    assert.equal(await service.create(its, { dims: 2, metric: "cosine" }), false);
    await assert.rejects(service.create(its, { dims: 3, metric: "cosine" }), refused("conflict"));
    await assert.rejects(service.create(its, { dims: 2, metric: "ip" }), refused("conflict"));
    assert.equal(await service.drop(its), true);
    assert.equal(await service.drop(its), false);
    assert.equal(service.shapeOf(its), undefined);
    assert.ok(!service.names().includes(its) && service.namesChanged > changed);
  });

  test(`${name}: names and shapes in the status are those of this moment, and the status of one collection is all of one`, async () => {
    const its = await collection(2);
    const listed = (): unknown => service.status().collections.flatMap(({ name: one, dims, metric }) => (one === its ? [{ dims, metric }] : []));
    assert.deepEqual(listed(), [{ dims: 2, metric: "cosine" }]);
    await put(its, { a: [1, 0], b: [0, 1] });
    const { elements, baseRows, tailRows } = (await service.statusOf(its))!;
    assert.deepEqual([elements, baseRows, tailRows], [2, 0, 2]);
    await service.drop(its);
    assert.deepEqual(listed(), []);
    assert.equal(await service.statusOf(its), undefined);
    await service.create(its, { dims: 3, metric: "l2" });
    assert.deepEqual(listed(), [{ dims: 3, metric: "l2" }]);
    assert.equal((await service.statusOf(its))!.elements, 0);
  });

  test(`${name}: what is not there is a value`, async () => {
    const none = "no such collection";
    assert.equal(service.shapeOf(none), undefined);
    assert.equal(await service.upsert(none, { elements: ["a"], vectors: Float32Array.of(1, 2) }), undefined);
    assert.equal(await service.remove(none, ["a"]), undefined);
    assert.equal(await service.setAttributes(none, ["a"], ["{}"]), undefined);
    assert.equal(await service.get(none, ["a"]), undefined);
    assert.equal(await service.count(none), undefined);
    assert.equal(await service.random(none, 1), undefined);
    assert.equal(await service.search({ collection: none, queries: Float32Array.of(1, 2), count: 3 }), undefined);
    const its = await collection(2);
    assert.deepEqual([...(await service.remove(its, ["a"]))!], [0]);
    assert.deepEqual([...(await service.setAttributes(its, ["a"], ["{}"]))!], [0]);
    assert.deepEqual([...(await service.get(its, ["a"]))!.found], [0]);
    assert.equal(await service.count(its), 0);
    assert.deepEqual(await service.random(its, 3), []);
    assert.deepEqual(await service.random(its, -3), []);
    assert.deepEqual(namesOf(await service.search({ collection: its, queries: Float32Array.of(1, 2), count: 3 })), []);
    await assert.rejects(service.search({ collection: its, queries: { element: "a" }, count: 3 }), refused("not-found"));
    await put(its, { a: [1, 2] });
    await assert.rejects(service.search({ collection: its, queries: { element: "b" }, count: 3 }), refused("not-found"));
    await assert.rejects(service.search({ collection: its, version: "none", queries: { element: "a" }, count: 3 }), refused("not-found"));
  });

  test(`promise: ${name}: every search asked after an acknowledged write sees it`, async () => {
    const its = await collection(2);
    assert.deepEqual(await put(its, { a: [1, 0], b: [0, 1] }), [1, 1]);
    const ask = (x: number, y: number): ReturnType<VectorService["search"]> => service.search({ collection: its, queries: Float32Array.of(x, y), count: 2 });
    assert.deepEqual(namesOf(await ask(1, 0.1)), ["a", "b"]);
    assert.equal(await service.count(its), 2);
    assert.deepEqual(await put(its, { a: [0, 1], b: [1, 0], c: [-1, 0] }), [0, 0, 1]);
    assert.deepEqual(namesOf(await ask(1, 0.1)), ["b", "a"]);
    assert.deepEqual([...(await service.remove(its, ["b", "none"]))!], [1, 0]);
    assert.deepEqual(namesOf(await ask(1, 0.1)), ["a", "c"]);
    assert.equal(await service.count(its), 2);
    // Back again, as a new one.
    assert.deepEqual(await put(its, { b: [1, 0] }), [1]);
    assert.deepEqual(namesOf(await ask(1, 0.1)), ["b", "a"]);
  });

  test(`${name}: an element that stands twice in a write has its last vector`, async () => {
    const its = await collection(2);
    const fresh = await service.upsert(its, { elements: ["a", "b", "a"], vectors: Float32Array.of(1, 0, 0, -1, 0, 1) });
    assert.deepEqual([...fresh!], [1, 1, 0]);
    near([...(await service.get(its, ["a"]))!.vectors], [0, 1]);
    assert.equal(await service.count(its), 2);
  });

  test(`${name}: a write of a wrong size changes nothing`, async () => {
    const its = await collection(3);
    await assert.rejects(service.upsert(its, { elements: ["a", "b"], vectors: Float32Array.of(1, 2, 3) }), refused("invalid"));
    assert.equal(await service.count(its), 0);
    await assert.rejects(service.search({ collection: its, queries: Float32Array.of(1, 2), count: 1 }), refused("invalid"));
  });

  test(`${name}: scores of the three metrics, and what is stored`, async () => {
    const rows = { a: [3, 4], b: [4, 3], c: [-3, -4] };
    const cosine = await collection(2, "cosine");
    const ip = await collection(2, "ip");
    const l2 = await collection(2, "l2");
    for (const its of [cosine, ip, l2]) await put(its, rows);
    const ask = (its: string): ReturnType<VectorService["search"]> => service.search({ collection: its, queries: Float32Array.of(6, 8), count: 3 });
    const ofCosine = await ask(cosine);
    assert.deepEqual(namesOf(ofCosine), ["a", "b", "c"]);
    near(scoresOf(ofCosine), [1, 0.96, -1]);
    const ofIp = await ask(ip);
    assert.deepEqual(namesOf(ofIp), ["a", "b", "c"]);
    near(scoresOf(ofIp), [50, 48, -50]);
    const ofL2 = await ask(l2);
    assert.deepEqual(namesOf(ofL2), ["a", "b", "c"]);
    near(scoresOf(ofL2), [25, 29, 225]);
    const kept = await service.get(cosine, ["a", "none", "b"]);
    assert.deepEqual([...kept!.found], [1, 0, 1]);
    near([...kept!.vectors], [0.6, 0.8, 0, 0, 0.8, 0.6]);
    near([kept!.norms[0]!, kept!.norms[2]!], [5, 5]);
    const raw = await service.get(l2, ["a"]);
    near([...raw!.vectors], [3, 4]);
    near([raw!.norms[0]!], [1]);
  });

  test(`${name}: a search by an element begins with it, and batches answer each query`, async () => {
    const its = await collection(2);
    await put(its, { a: [1, 0], b: [1, 1], c: [0, 1] });
    assert.deepEqual(namesOf(await service.search({ collection: its, queries: { element: "b" }, count: 1 })), ["b"]);
    const answer = await service.search({ collection: its, queries: Float32Array.of(1, 0.1, 0.1, 1, 1, 1.01), count: 2 });
    assert.deepEqual([...answer!.from], [0, 2, 4, 6]);
    assert.deepEqual(
      [namesOf(answer, 0), namesOf(answer, 1)],
      [
        ["a", "b"],
        ["c", "b"],
      ],
    );
    assert.deepEqual(namesOf(answer, 2), ["b", "c"]);
  });

  test(`${name}: attributes are kept, set, taken away, and decide who is an answer`, async () => {
    const its = await collection(2);
    await put(its, { a: [1, 0], b: [1, 0.1], c: [1, 0.2] }, ['{"year":1984,"genre":"action"}', '{"year":1979,"genre":"action"}', undefined]);
    const ask = async (filter: string): Promise<readonly string[]> =>
      namesOf(await service.search({ collection: its, queries: Float32Array.of(1, 0), count: 3, filter, exact: true }));
    assert.deepEqual(await ask(".year >= 1980"), ["a"]);
    assert.deepEqual(await ask('.genre == "action"'), ["a", "b"]);
    assert.deepEqual(await ask('.year >= 1980 and .genre == "drama"'), []);
    await assert.rejects(ask("year >"), refused("invalid"));
    assert.deepEqual([...(await service.setAttributes(its, ["c", "none"], ['{"year":2000}', "{}"]))!], [1, 0]);
    assert.deepEqual(await ask(".year >= 1980"), ["a", "c"]);
    assert.deepEqual([...(await service.setAttributes(its, ["a"], [""]))!], [1]);
    assert.deepEqual(await ask(".year >= 1980"), ["c"]);
    assert.deepEqual((await service.get(its, ["a", "b", "c"]))!.attributes, [undefined, '{"year":1979,"genre":"action"}', '{"year":2000}']);
    const with_ = await service.search({ collection: its, queries: Float32Array.of(1, 0), count: 3, withAttributes: true });
    assert.deepEqual(with_!.attributes, [undefined, '{"year":1979,"genre":"action"}', '{"year":2000}']);
    // A new vector leaves them, "" takes them away.
    await put(its, { b: [0, 1] });
    assert.equal((await service.get(its, ["b"]))!.attributes[0], '{"year":1979,"genre":"action"}');
    await put(its, { b: [0, 1] }, [""]);
    assert.equal((await service.get(its, ["b"]))!.attributes[0], undefined);
  });

  test(`${name}: random elements, each once, or as many as are asked for`, async () => {
    const its = await collection(1, "ip");
    await put(its, { a: [1], b: [2], c: [3] });
    const once = await service.random(its, 2);
    assert.equal(new Set(once).size, 2);
    assert.deepEqual([...(await service.random(its, 10))!].sort(), ["a", "b", "c"]);
    const often = await service.random(its, -10);
    assert.equal(often!.length, 10);
    assert.ok(often!.every((one) => ["a", "b", "c"].includes(one)));
  });

  test(`promise: ${name}: changes grow with every write, before it is acknowledged`, async () => {
    const its = await collection(1, "ip");
    let seen = service.changesOf(its);
    const grew = (what: string): void => {
      const now = service.changesOf(its);
      assert.ok(now > seen, `${what}: ${now} after ${seen}`);
      seen = now;
    };
    await put(its, { a: [1] });
    grew("upsert");
    await service.setAttributes(its, ["a"], ['{"x":1}']);
    grew("setAttributes");
    await service.remove(its, ["a"]);
    grew("remove");
    await service.drop(its);
    await service.create(its, { dims: 1, metric: "ip" });
    grew("drop and create");
  });

  test(`${name}: names and elements may be any text`, async () => {
    const its = await collection(1, "ip");
    const odd = [" ", "ä€😀", "a\nb", "x".repeat(1_000)];
    await service.upsert(its, { elements: odd, vectors: Float32Array.from(odd, (_, i) => i) });
    assert.deepEqual([...namesOf(await service.search({ collection: its, queries: Float32Array.of(1), count: 10 }))].reverse(), odd);
    const key = "shop:ä€ items";
    await service.create(key, { dims: 1, metric: "ip" });
    assert.deepEqual(service.shapeOf(key), { dims: 1, metric: "ip" });
    await service.drop(key);
  });

  test(`${name}: exact search is that of a sort, seed ${seed}`, async () => {
    const prng = new Prng(seed);
    const [rows, dims, queries] = [500, 13, 7];
    for (const metric of ["cosine", "ip", "l2"] as const) {
      const its = await collection(dims, metric);
      const vectors = Float32Array.from({ length: rows * dims }, () => prng.float() - 0.5);
      const elements = Array.from({ length: rows }, (_, i) => `e${i}`);
      await service.upsert(its, { elements, vectors: vectors.slice() });
      const asked = Float32Array.from({ length: queries * dims }, () => prng.float() - 0.5);
      const answer = await service.search({ collection: its, queries: asked.slice(), count: 10, exact: true });
      for (let q = 0; q < queries; q++) {
        const scores = elements.map((_, row) => {
          let [product, distance, a, b] = [0, 0, 0, 0];
          for (let j = 0; j < dims; j++) {
            const [x, y] = [asked[q * dims + j]!, vectors[row * dims + j]!];
            product += x * y;
            distance += (x - y) ** 2;
            a += x * x;
            b += y * y;
          }
          return metric === "l2" ? distance : metric === "ip" ? product : product / Math.sqrt(a * b);
        });
        const best = [...scores].sort((a, b) => (metric === "l2" ? a - b : b - a)).slice(0, 10);
        near(scoresOf(answer, q), best);
        for (const [i, element] of namesOf(answer, q).entries()) near([scores[Number(element.slice(1))]!], [scoresOf(answer, q)[i]!]);
      }
    }
  });
}
