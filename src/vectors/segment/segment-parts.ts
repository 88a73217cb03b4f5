// What a build makes and files hold: the arrays of a segment by name, and what the rest of a version needs to know to lay its own arrays beside them.

import { codeCount, codePoints, groupsFor } from "#kernel/ivf-layout";
import { codeBytes, rowFloats, type VectorMetric, type VectorShape } from "#kernel/vector-layout";

export type SegmentArray = Float32Array | Int8Array | Uint8Array | Uint32Array;

export interface SegmentParts {
  readonly shape: VectorShape;
  readonly rows: number;
  /** A multiple of 32. */
  readonly slots: number;
  readonly lists: number;
  /** Slot -> row of the input, `paddingSlot` where there is none. */
  readonly order: Uint32Array;
  /** docs/format/vector-segment.md */
  readonly arrays: ReadonlyMap<string, SegmentArray>;
  readonly statistics: Readonly<Record<string, number>>;
}

export const paddingSlot = 0xffff_ffff;

export interface SegmentRows {
  /** Row-major, `count * dims`, finite. Not changed. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly dims: number;
}

/** Numbers of the head, in order. */
export interface SegmentHead {
  readonly metric: VectorMetric;
  readonly dims: number;
  readonly rows: number;
  readonly slots: number;
  readonly lists: number;
  readonly idBytes: number;
  /** Groups of the means of blocks: `listGroups(starts)`. 0: there are none. */
  readonly groups: number;
}

export const segmentFormat = 2;
/** Formats that are read. */
export const segmentFormats: readonly number[] = [1, segmentFormat];
export const headWords = 16;
export const metricNumbers: readonly VectorMetric[] = ["cosine", "ip", "l2"];

export interface ArrayLayout {
  readonly name: string;
  readonly type: "<f4" | "<u4" | "|i1" | "|u1";
  readonly shape: readonly number[];
}

/** The arrays behind the head, in the order in which they are written and loaded. */
export function arraysOf({ metric, dims, slots, lists, idBytes, groups }: SegmentHead): readonly ArrayLayout[] {
  const floats = rowFloats(dims);
  const list: ArrayLayout[] = [
    { name: "starts", type: "<u4", shape: [lists + 1] },
    { name: "live", type: "<u4", shape: [slots / 32] },
    { name: "rows", type: "<f4", shape: [slots, floats] },
    { name: "codes8", type: "|i1", shape: [slots, codeBytes(dims)] },
    { name: "scales", type: "<f4", shape: [codeBytes(dims)] },
    { name: "id-starts", type: "<u4", shape: [slots + 1] },
    { name: "ids", type: "|u1", shape: [idBytes] },
  ];
  if (metric === "cosine") list.push({ name: "norms", type: "<f4", shape: [slots] });
  if (metric === "l2") list.push({ name: "bias", type: "<f4", shape: [slots] });
  if (lists > 1) {
    list.push(
      { name: "centroids", type: "<f4", shape: [lists, floats] },
      { name: "spreads", type: "<f4", shape: [lists] },
      { name: "code-errors", type: "<f4", shape: [lists] },
      { name: "codes4", type: "|u1", shape: [slots / 32, codeCount(dims), 16] },
      { name: "points", type: "<f4", shape: [codeCount(dims), 2, codePoints] },
    );
    if (metric === "l2") list.push({ name: "list-bias", type: "<f4", shape: [lists] });
    if (groups > 0) {
      list.push({ name: "block-codes", type: "|u1", shape: [groups, codeCount(dims), 16] }, { name: "block-spreads", type: "<f4", shape: [slots / 32] });
      if (metric === "l2") list.push({ name: "block-bias", type: "<f4", shape: [slots / 32] });
    }
  }
  return list;
}

/** The first group of each list, and how many there are in all. */
export function listGroups(starts: Uint32Array): Uint32Array {
  const first = new Uint32Array(starts.length);
  for (let list = 0; list + 1 < starts.length; list++) first[list + 1] = first[list]! + groupsFor(starts[list + 1]! - starts[list]!);
  return first;
}

export function elementsOf({ shape }: ArrayLayout): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function bytesOf(layout: ArrayLayout): number {
  return elementsOf(layout) * (layout.type.endsWith("4") ? 4 : 1);
}

/** Name of the file of an array. */
export function fileOf(name: string): string {
  return `segment.${name}.npy`;
}
