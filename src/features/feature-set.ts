// A set of declared aggregations, built once, fed with every event of the log in order.
// Why declared: the same data gives the stores, the status page and later the tables of the feature store.
// Invariants: 1. `fold` is the only way in  2. stores fold in the order of their declaration: a co-occurrence stands before the list that it
// reads, so that an event never pairs with itself  3. the declaration decides all state: the same events give the same answers after a rebuild.

import { MillraceError } from "#base/errors";
import type { Aggregation, AggregationStore, FoldEvent } from "./aggregation.ts";

export type Declarations = Readonly<Record<string, Aggregation<AggregationStore>>>;

export type StoresOf<D extends Declarations> = { readonly [K in keyof D]: D[K] extends Aggregation<infer S> ? S : never };

export interface FeatureSet<D extends Declarations> {
  readonly stores: StoresOf<D>;
  /** Index of an event type, `undefined` when it is not declared. */
  typeIndex(name: string): number | undefined;
  readonly eventTypes: readonly string[];
  fold(event: FoldEvent): void;
  /** Bytes by aggregation name. */
  bytes(): Record<string, number>;
  /** The declarations as data. */
  describe(): Record<string, { kind: string; options: Readonly<Record<string, unknown>> }>;
}

/** Builds the stores of `declarations` for events of `eventTypes` (at most 64 types). Throws `invalid` for a declaration that cannot be built. */
export function createFeatureSet<const D extends Declarations>(eventTypes: readonly string[], declarations: D): FeatureSet<D> {
  if (eventTypes.length > 64) throw new MillraceError("invalid", `${eventTypes.length} event types declared`, { todo: "declare at most 64" });
  const typeIndexes = new Map(eventTypes.map((name, index) => [name, index]));
  const names = Object.keys(declarations);
  const stores: Record<string, AggregationStore> = {};
  const building = new Set<string>();

  function build(name: string): AggregationStore {
    const existing = stores[name];
    if (existing !== undefined) return existing;
    const declaration = declarations[name];
    if (declaration === undefined)
      throw new MillraceError("invalid", `aggregation "${name}" is not declared`, { todo: `declare it, or use one of: ${names.join(", ")}` });
    if (building.has(name)) throw new MillraceError("invalid", `aggregation "${name}" needs itself`, { todo: "break the circle" });
    building.add(name);
    const types = declaration.options["types"];
    for (const type of Object.keys((types as Record<string, number> | undefined) ?? {})) {
      if (!typeIndexes.has(type)) {
        throw new MillraceError("invalid", `aggregation "${name}" counts events of type "${type}", which is not declared`, {
          todo: `declare the event type, or use one of: ${eventTypes.join(", ")}`,
        });
      }
    }
    const store = declaration.create({
      eventTypes,
      sister: (other, order) => {
        if (order === "folded-after" && declarations[other] !== undefined && names.indexOf(other) < names.indexOf(name)) {
          throw new MillraceError("invalid", `aggregation "${name}" reads "${other}", which is folded before it`, {
            todo: `declare "${name}" before "${other}"`,
          });
        }
        return build(other);
      },
    });
    stores[name] = store;
    building.delete(name);
    return store;
  }

  for (const name of names) build(name);
  const inOrder = names.map((name) => stores[name]!);

  return {
    stores: stores as StoresOf<D>,
    typeIndex: (name) => typeIndexes.get(name),
    eventTypes,
    fold(event) {
      for (const store of inOrder) store.fold(event);
    },
    bytes: () => Object.fromEntries(names.map((name) => [name, stores[name]!.bytes])),
    describe: () => Object.fromEntries(names.map((name) => [name, { kind: declarations[name]!.kind, options: declarations[name]!.options }])),
  };
}
