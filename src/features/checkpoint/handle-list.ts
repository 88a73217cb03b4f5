// Texts in the order of their handles, as pieces that are written once: for handle tables without a row of their own (categories), and for ids that were seen.
// Bytes of a piece (docs/format/aggregation-checkpoint.md): count varint, then each text as varint length and UTF-8.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import type { HandleTable } from "../handle-table.ts";
import { damagedState } from "./state-row.ts";
import type { StateList, StateListCut } from "./stored-state.ts";

/** Texts of one piece; of 128 characters at most, they fit into a row. */
export const pieceTexts = 1_000;

/** A number of a key, so that keys stand in its order. */
export function keyNumber(value: number): string {
  return String(value).padStart(12, "0");
}

export function encodeTexts(texts: readonly string[]): Uint8Array {
  const out = new ByteWriter(texts.length * 24 + 16);
  out.varint(texts.length);
  for (const text of texts) out.string(text);
  return out.since(0);
}

/** Throws `corrupt`. */
export function decodeTexts(bytes: Uint8Array): string[] {
  const reader = new ByteReader(bytes, "list of texts of a checkpoint", "see docs/design/features.md, When something fails");
  const count = reader.varint();
  if (count > reader.left) throw reader.damaged("more texts than bytes");
  const texts = Array.from({ length: count }, () => reader.string());
  reader.end();
  return texts;
}

/** A handle table as a list that only grows. */
export class HandleList implements StateList {
  readonly name: string;
  readonly #table: HandleTable;
  readonly #restored: (handle: number, text: string) => void;
  #saved = 0;

  /** `restored` is told each text that was loaded. */
  constructor(name: string, table: HandleTable, restored: (handle: number, text: string) => void = () => undefined) {
    this.name = name;
    this.#table = table;
    this.#restored = restored;
  }

  cut(): StateListCut {
    const to = this.#table.size;
    const pieces: { key: string; bytes: () => Uint8Array }[] = [];
    for (let from = this.#saved; from < to; from += pieceTexts) {
      const count = Math.min(pieceTexts, to - from);
      pieces.push({
        key: `${this.name}/${keyNumber(from)}`,
        bytes: () => encodeTexts(Array.from({ length: count }, (_, i) => this.#table.id(from + i))),
      });
    }
    return {
      pieces,
      deleted: [],
      done: () => {
        this.#saved = to;
      },
      giveUp: () => undefined,
    };
  }

  load(key: string, bytes: Uint8Array): void {
    if (key !== `${this.name}/${keyNumber(this.#saved)}`) throw damagedState(`list ${this.name} has no piece at ${this.#saved}`);
    for (const text of decodeTexts(bytes)) {
      const handle = this.#saved;
      if (this.#table.intern(text) !== handle) throw damagedState(`list ${this.name} has a text twice`);
      this.#restored(handle, text);
      this.#saved += 1;
    }
  }
}
