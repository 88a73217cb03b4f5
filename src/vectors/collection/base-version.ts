// The base of a collection as a view of it needs it: a loaded segment with the settings of its searches and what is kept beside each slot.
// Why an interface: a server loads one from the files of a version, a fold in its own process too, and tests make one out of rows.

import type { AttributeSource } from "../filter/attribute-columns.ts";
import type { SearchSettings } from "../segment/search-settings.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";

export interface BaseVersion {
  readonly version: string;
  readonly segment: VectorSegment;
  readonly settings: SearchSettings;
  /** Offset of the first record of the collection's log that its rows do not hold. */
  readonly deltaOffset: number;
  /** By slot; undefined: no row has any. */
  readonly attributes: AttributeSource | undefined;
  /** Length before normalising; 1 where that is not kept. */
  normOf(slot: number): number;
  readonly bytes: number;
  release(): void;
}
