// Quality over time, kept in three widths of stretch: each second for 15 minutes, 10 s for 6 h, each minute for 7 days of record time.
// The trainer keeps one with its figures; the serving loop keeps another, filled by messages, and answers from it.
// Invariants: 1. points of one width are in order of time, one a stretch  2. at most `keepMs / everyMs` of each width, so 13,140 in all (about 2 MB).

import type { QualityAnswer, QualityPoint } from "#wire/live-api";

/** Finest first. */
export const qualityWidths = [
  { everyMs: 1_000, keepMs: 15 * 60_000 },
  { everyMs: 10_000, keepMs: 6 * 3_600_000 },
  { everyMs: 60_000, keepMs: 7 * 86_400_000 },
] as const;

export class QualityHistory {
  readonly #widths: readonly { points: QualityPoint[]; start: number }[] = qualityWidths.map(() => ({ points: [], start: 0 }));

  /** A closed stretch of the width with that index; one that stands already is replaced, an older one is passed over. */
  push(width: number, point: QualityPoint): void {
    const kept = this.#widths[width]!;
    const last = kept.points.at(-1);
    if (last !== undefined && point.atMs <= last.atMs) {
      if (point.atMs === last.atMs) kept.points[kept.points.length - 1] = point;
      return;
    }
    kept.points.push(point);
    const { keepMs, everyMs } = qualityWidths[width]!;
    while (kept.points[kept.start]!.atMs <= point.atMs - keepMs || kept.points.length - kept.start > keepMs / everyMs) kept.start += 1;
    if (kept.start > 256 && kept.start * 2 > kept.points.length) {
      kept.points = kept.points.slice(kept.start);
      kept.start = 0;
    }
  }

  /** Oldest first. */
  points(width: number): readonly QualityPoint[] {
    const { points, start } = this.#widths[width]!;
    return start === 0 ? points : points.slice(start);
  }

  /** Those that begin after `atMs`, oldest first: what a copy of this history still lacks. */
  after(width: number, atMs: number): readonly QualityPoint[] {
    const { points, start } = this.#widths[width]!;
    let from = points.length;
    while (from > start && points[from - 1]!.atMs > atMs) from -= 1;
    return points.slice(from);
  }

  /** The newest closed stretch of that width. */
  newest(width: number): QualityPoint | undefined {
    return this.#widths[width]!.points.at(-1);
  }

  /** The last `minutes` before the newest point, in the finest width that is kept for so long. */
  answer(minutes: number): QualityAnswer {
    const wantedMs = minutes * 60_000;
    const found = qualityWidths.findIndex(({ keepMs }) => wantedMs <= keepMs);
    const width = found < 0 ? qualityWidths.length - 1 : found;
    const newestMs = Math.max(...qualityWidths.map((_, index) => this.newest(index)?.atMs ?? -Infinity));
    return { everyMs: qualityWidths[width]!.everyMs, points: this.points(width).filter(({ atMs }) => atMs > newestMs - wantedMs) };
  }
}
