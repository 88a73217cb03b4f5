// A model of the store: a Map, and the comparison of the whole store with it. Used by the random test and by the crash test.

import assert from "node:assert/strict";
import type { Prng } from "#base/prng";
import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import type { Clock } from "#platform/clock";
import { EffectBatch } from "./effect-batch.ts";
import { ScanPage } from "./scan-page.ts";
import { isHidden, keyAfterPrefix, type ScanRange, type Store } from "./store.ts";

export interface ModelEntry {
  /** Undefined: deleted. */
  readonly value: string | undefined;
  readonly expiryMs: number;
  readonly timeMs: number;
}

export interface ModelEffect extends ModelEntry {
  readonly namespace: number;
  readonly key: string;
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text, "latin1");
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");

/** Namespaces of the tests; the tombstones of the second one are kept. */
export const namespaces = [0, 1, 513] as const;
export const keptNamespace = 1;

/** `namespace:key` as one text whose order is that of the engine's keys. */
export const modelKey = (namespace: number, key: string): string => String.fromCharCode(namespace >> 8, namespace & 255) + key;

export class StoreModel {
  readonly entries = new Map<string, ModelEntry>();
  /** The latest wall time at which something may have been dropped as expired. */
  latestMs = 0;

  apply(effects: readonly ModelEffect[]): void {
    for (const effect of effects) this.entries.set(modelKey(effect.namespace, effect.key), effect);
  }

  /** What the store must show: `maybe` = expired at some time before the wall clock went back, so it may be there or not. */
  look(key: string, nowMs: number): { value: string | undefined; maybe: boolean } {
    const entry = this.entries.get(key);
    if (entry?.value === undefined || (entry.expiryMs > 0 && entry.expiryMs <= nowMs)) return { value: undefined, maybe: false };
    return { value: entry.value, maybe: entry.expiryMs > 0 && entry.expiryMs <= this.latestMs };
  }
}

export function writeEffects(store: Store, effects: readonly ModelEffect[]): number {
  const batch = new EffectBatch();
  for (const { namespace, key, value, expiryMs, timeMs } of effects) {
    if (value === undefined) batch.delete(namespace, bytesOf(key), timeMs);
    else batch.put(namespace, bytesOf(key), 1, bytesOf(value), expiryMs, timeMs);
  }
  return store.write(batch);
}

/** A random transaction over a small set of keys, some of them long, empty or of any bytes. */
export function randomEffects(random: Prng, nowMs: number, mark: string, valueBytesUsual = 400): ModelEffect[] {
  return Array.from({ length: 1 + (random.chance(0.7) ? random.below(3) : random.below(12)) }, (): ModelEffect => {
    const namespace = random.pick(namespaces);
    const key = randomKey(random);
    const timeMs = random.chance(0.3) ? nowMs : 0;
    if (random.chance(0.2)) return { namespace, key, value: undefined, expiryMs: 0, timeMs };
    const value = random.chance(0.05) ? "" : mark.padEnd(random.chance(0.03) ? random.below(20_000) : random.below(valueBytesUsual), "v");
    const expiryMs = random.chance(0.25) ? nowMs + random.between(1, random.pick([1_000, 100_000, 10_000_000])) : 0;
    return { namespace, key, value, expiryMs, timeMs };
  });
}

function randomKey(random: Prng): string {
  const number = random.below(300);
  if (number === 0) return "";
  if (number < 10) return String.fromCharCode(255).repeat(number);
  if (number < 20) return "long".repeat(100) + number;
  if (number < 60) return `user:${number % 8}:f${number}`;
  return `k${number}`;
}

/** Compares what look-ups and scans in both directions show with the model. */
export async function compareStore(store: Store, model: StoreModel, clock: Clock, random: Prng, what: string): Promise<void> {
  const nowMs = clock.nowMs();
  model.latestMs = Math.max(model.latestMs, nowMs);
  const asked = [...model.entries.keys(), modelKey(0, "never"), modelKey(7, "k1")];
  const keys = KeyBatch.of(asked.map(bytesOf));
  const refs = new EntryRefs();
  store.getMany(keys, refs, nowMs);
  const shown = new Map<string, string>();
  for (const [i, key] of asked.entries()) {
    const { value, maybe } = model.look(key, nowMs);
    const found = refs.source[i] === 255 ? undefined : textOf(store.bytesOf(refs, i));
    if (found !== value && !(maybe && found === undefined)) assert.fail(`${what}: key ${JSON.stringify(key)} is ${show(found)} instead of ${show(value)}`);
    if (found !== undefined) {
      const { expiryMs, timeMs } = model.entries.get(key)!;
      assert.deepEqual([refs.expiryMs[i], refs.timeMs[i], refs.kind[i]], [expiryMs, timeMs, 1], `${what}: ${JSON.stringify(key)}`);
      shown.set(key, found);
    } else if (model.entries.has(key) && key.startsWith(modelKey(keptNamespace, ""))) {
      assert.ok(isHidden(refs, i), `${what}: the tombstone of ${JSON.stringify(key)} is gone although its namespace has a base`);
    } else if (!model.entries.has(key)) {
      assert.ok(!isHidden(refs, i), what);
    }
  }
  const inOrder = [...shown].sort(([a], [b]) => (a < b ? -1 : 1));
  const prefix = bytesOf(modelKey(random.pick(namespaces), random.pick(["", "user:", "user:3", "k1", "long"])));
  const ranges: { range: Omit<ScanRange, "limit">; within: (key: string) => boolean }[] = [
    { range: { from: new Uint8Array(0) }, within: () => true },
    { range: { from: prefix, to: keyAfterPrefix(prefix)! }, within: (key) => key.startsWith(textOf(prefix)) },
  ];
  for (const { range, within } of ranges) {
    const expected = inOrder.filter(([key]) => within(key));
    for (const reverse of [false, true]) {
      const found = await scanAll(store, { ...range, reverse, limit: 1 + random.below(100), nowMs }, clock);
      assert.deepEqual(found, reverse ? expected.toReversed() : expected, `${what}: scan ${reverse ? "backwards" : "forwards"}`);
    }
  }
}

export async function scanAll(store: Store, range: ScanRange, clock: Clock): Promise<[string, string][]> {
  const page = new ScanPage();
  const found: [string, string][] = [];
  let rest = range;
  for (;;) {
    const more = store.scan(rest, page);
    for (let i = 0; i < page.count; i++) found.push([textOf(page.keyOf(i)), textOf(page.valueOf(i))]);
    if (!more) return found;
    rest = rest.reverse === true ? { ...rest, to: page.next! } : { ...rest, from: page.next! };
    if (page.count === 0) await clock.yield();
  }
}

function show(value: string | undefined): string {
  return value === undefined ? "absent" : `${value.slice(0, 20)}... (${value.length} bytes)`;
}
