// The kernel's part of a read: byte ranges of rows of the newest layout, out of every memory that holds some, straight into the sections of a block.
// Rows of another layout, sparse ones and ones with a deletion in them do not take part: `taken` says who did, the others are put together cell by cell.

import { absentSource, type EntryRefs } from "#kernel/entry-refs";
import { FieldGather, type GatherField } from "#kernel/gather-fields";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { BlockWriter } from "./block-writer.ts";
import type { ReadPlan } from "./read-plan.ts";
import { rowFlags, rowFormat } from "./row-cells.ts";
import { rowHeadBytes } from "./row-layout.ts";

/** Format, flags that change places, revision: the first word of a row. Times of its own (`cells`) change no place. */
const headMask = (0xffff00ff | ((rowFlags.sparse | rowFlags.floor) << 8)) >>> 0;

export class TableGather {
  readonly #gather: FieldGather;
  readonly #plan: ReadPlan;
  readonly #outputs: Uint8Array[] = [];
  readonly #valid: readonly undefined[];
  readonly #there = new Uint8Array(256);

  constructor(plan: ReadPlan) {
    const { layout } = plan.schema;
    const fields: GatherField[] = [];
    for (const planned of plan.byPlace) {
      if (planned === undefined || planned.segment < 0) continue;
      const { laid, defaultBytes } = planned.column;
      fields.push({
        offset: laid.offset,
        bytes: laid.bytes,
        validBit: rowHeadBytes * 8 + laid.at,
        output: planned.segment,
        at: planned.within,
        defaults: defaultBytes,
      });
    }
    fields.push({ offset: plan.validFrom, bytes: plan.validBytes, output: plan.segments.length, at: 0 });
    const match = (rowFormat | (layout.revision << 16)) >>> 0;
    this.#plan = plan;
    this.#gather = new FieldGather({ bytesMin: layout.fixedTo, mask: headMask, match, note: rowFlags.cells << 8 }, fields, [
      ...plan.segments.map(({ bytes }) => bytes),
      plan.validBytes,
    ]);
    this.#valid = fields.map(() => undefined);
  }

  /** Gathers the rows that `sources` names (instead of those of `refs`); `taken[row]` = 1 for each that took part, 3 where its cells have times of their own. */
  gather(block: BlockWriter, refs: EntryRefs, sources: Uint8Array<ArrayBuffer>, memoryOf: (source: number) => KernelMemory, taken: Uint8Array): void {
    const { segments, validBytes } = this.#plan;
    const { bytes, rows } = block;
    const outputs = this.#outputs;
    for (let i = 0; i < segments.length; i += 1) {
      const at = block.segmentAt[i]!;
      outputs[i] = bytes.subarray(at, at + rows * segments[i]!.bytes);
    }
    outputs[segments.length] = bytes.subarray(block.validAt, block.validAt + rows * validBytes);
    const targets = { outputs, valid: this.#valid, taken };
    const there = this.#there;
    there.fill(0);
    for (let row = 0; row < rows; row += 1) there[sources[row]!] = 1;
    const { source: kept } = refs;
    refs.source = sources;
    try {
      for (let source = 0; source < absentSource; source += 1) if (there[source] === 1) this.#gather.gather(memoryOf(source), refs, source, targets);
    } finally {
      refs.source = kept;
    }
  }
}
