// When a task is to be built, and why: somebody asked, an outside job is done, or its time has come. Pure, so that every builder reckons the same.
// Invariants: 1. a disabled task is built only when somebody asks by hand  2. what somebody asked for comes before what is due by itself; of equals whoever waits longest
// 3. a build that began and did not come to an end (its builder was killed) is due at once  4. after one that failed the schedule counts from its begin, so a task that cannot succeed is not tried without pause.

import type { VectorTaskTrigger } from "#wire/vector-task-api";
import type { Ask, TaskHistory } from "./task-board.ts";
import { editionOf, type TaskState } from "./task-state.ts";

export interface Due {
  readonly trigger: VectorTaskTrigger;
  /** Since when. */
  readonly sinceMs: number;
}

/** `marker`: what was seen of the task's marker file just now; undefined: it is not there. */
export function dueOf(state: TaskState, ask: Ask | undefined, history: TaskHistory, marker: string | undefined, nowMs: number): Due | undefined {
  if (state.removed) return undefined;
  if (ask !== undefined && (state.enabled || ask.trigger === "asked")) return { trigger: ask.trigger, sinceMs: ask.atMs };
  if (!state.enabled) return undefined;
  const { schedule = {} } = editionOf(state).config;
  if (schedule.markerFile !== undefined && marker !== undefined && marker !== history.marker) return { trigger: "marker", sinceMs: nowMs };
  if (schedule.everySeconds !== undefined && history.attempts > 0) return { trigger: "schedule", sinceMs: history.startedAtMs };
  const nextAtMs = nextOf(state, history);
  return nextAtMs !== undefined && nextAtMs <= nowMs ? { trigger: "schedule", sinceMs: nextAtMs } : undefined;
}

/** When the schedule wants the next build; a task that was never built is due at once. */
export function nextOf(state: TaskState, history: TaskHistory): number | undefined {
  const { schedule = {} } = editionOf(state).config;
  if (!state.enabled || schedule.everySeconds === undefined) return undefined;
  // A clock that went back must not stop a task for as long.
  const startedAtMs = history.startedAtMs;
  return startedAtMs === 0 ? editionOf(state).atMs : startedAtMs + schedule.everySeconds * 1_000;
}

/** Asked first, then the longest wait. */
export function isBefore(a: Due, b: Due): boolean {
  const asked = (due: Due): number => (due.trigger === "schedule" ? 1 : 0);
  return asked(a) - asked(b) < 0 || (asked(a) === asked(b) && a.sinceMs < b.sinceMs);
}
