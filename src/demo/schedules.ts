// Where people of the demo world live, and the hours at which a streamer is on air: round the clock, every day, Monday to Friday, or on weekends.
// Why hours of their own: rooms of a language are open when its viewers are awake. Why the total stays level all the same: the zones of the languages cover the
// globe evenly (`languageZones`), so at each hour other streamers make up about the same number.
// Invariants: 1. the hours of a day are a function of (slot, day) alone: no state, any day can be asked for  2. hours of two days do not
// overlap  3. over all streamers the share on air is `onAirShare` at every moment, apart from chance.
// Cost: `hoursAt` asks three days as a rule, nine at most, 0.3 us a day.

import { type Draws, cumulate } from "./draws.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";

const hourMs = 3_600_000;
export const dayMs = 24 * hourMs;

export const planNames = ["always", "daily", "weekdays", "weekends"] as const;
const planCumulative = cumulate(planNames.length, (i) => parameter.planShares[i]!);

/** Milliseconds that the clock of somebody who speaks this language is ahead of UTC; `u` in (0, 1) is the draw. */
export function zoneOf(language: number, u: number): number {
  const ranges = parameter.languageZones[language]!;
  const total = ranges.reduce((sum, [from, to]) => sum + to - from, 0);
  let rest = u * total;
  for (const [from, to] of ranges) {
    if (rest < to - from) return (from + rest) * hourMs;
    rest -= to - from;
  }
  return ranges[0][0] * hourMs;
}

/** The share of all streamers whose hours it is, on average over a week. */
export const onAirShare = ((): number => {
  const [always, daily, weekdays, weekends] = parameter.planShares;
  return always + ((daily + (weekdays * 5 + weekends * 2) / 7) * (parameter.planHoursMin + parameter.planHoursMax)) / 2 / 24;
})();

/** What the streamers of a slot keep to for ever. */
export interface Plan {
  /** Index into `planNames`. */
  readonly kind: number;
  readonly zoneMs: number;
  /** Begin and length on an average day, local time from midnight; the begin may be negative. */
  readonly beginMs: number;
  readonly lengthMs: number;
}

export interface Hours {
  readonly fromMs: number;
  readonly toMs: number;
}

export function planOf(draws: Draws, slot: number, language: number): Plan {
  const lengthHours = parameter.planHoursMin + (parameter.planHoursMax - parameter.planHoursMin) * draws.uniform(stream.planLength, slot);
  const middleHour = parameter.planMiddleHour + parameter.planMiddleSdHours * draws.normal(stream.planMiddle, slot);
  return {
    kind: draws.weighted(planCumulative, stream.planKind, slot),
    zoneMs: zoneOf(language, draws.uniform(stream.planZone, slot)),
    beginMs: (middleHour - lengthHours / 2) * hourMs,
    lengthMs: lengthHours * hourMs,
  };
}

/** The hours that contain `atMs`, or the next ones after it. Ends lie strictly after `atMs`. */
export function hoursAt(draws: Draws, slot: number, plan: Plan, atMs: number): Hours {
  if (plan.kind === 0) return { fromMs: -Infinity, toMs: Infinity };
  for (let day = Math.floor((atMs + plan.zoneMs) / dayMs) - 1; ; day += 1) {
    // 1970-01-01 was a Thursday; 0 is Sunday. The day before it may be asked for too.
    const weekday = (((day + 4) % 7) + 7) % 7;
    const weekend = weekday === 0 || weekday === 6;
    if (plan.kind !== 1 && weekend !== (plan.kind === 3)) continue;
    const begin = day * dayMs - plan.zoneMs + plan.beginMs + parameter.planBeginSpreadMs * (2 * draws.uniform(stream.dayBegin, slot, day) - 1);
    const length = plan.lengthMs * (1 + parameter.planLengthSpread * (2 * draws.uniform(stream.dayLength, slot, day) - 1));
    if (begin + length > atMs) return { fromMs: Math.ceil(begin), toMs: Math.ceil(begin + length) };
  }
}
