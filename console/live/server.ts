// What the console knows of the server: its status once a second, the live stream, the seconds of the last quarter of an hour, training.
// Why status beside the stream: readiness, memory by owner and the steps of pipelines are no part of a second; and status answers also when the stream cannot.
// Invariants: 1. one status request and one stream at a time, neither while the page is hidden (browsers allow six connections to a server)
// 2. after the server was gone everything goes on by itself  3. at most `secondsMax` seconds are kept.

import type { StatusAnswer } from "#wire/api";
import type { HistoryAnswer, LiveSecond, TrainingStatus, WayStep } from "#wire/live-api";
import { ask, type Refused, refusedOf } from "./ask.ts";
import { openEventStream } from "./event-stream.ts";
import { store } from "./store.ts";
import { token, tokenWanted } from "./token.ts";

const statusEveryMs = 1_000;
const statusTimeoutMs = 4_000;
const streamAgainMs = 2_000;
const secondsMax = 900;

export const status = store<StatusAnswer | undefined>(undefined);
/** Why the last status request failed. */
export const gone = store<Refused | undefined>(undefined);
/** Oldest first. */
export const seconds = store<readonly LiveSecond[]>([]);
/** `none`: the server has no model. */
export const training = store<TrainingStatus | "none" | undefined>(undefined);
/** Whether the live stream is connected. */
export const streaming = store(false);

const wayListeners = new Set<(step: WayStep, atMs: number) => void>();
/** `atMs` is performance.now() when the step arrived. */
export function onWay(listener: (step: WayStep, atMs: number) => void): () => void {
  wayListeners.add(listener);
  return () => wayListeners.delete(listener);
}

let followed = "";
let source: { close(): void } | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;

/** Streams from now on; the steps of this user's events among it. */
export function follow(user: string): void {
  followed = user;
  connect();
}

function connect(): void {
  clearTimeout(retry);
  source?.close();
  source = undefined;
  streaming.set(false);
  if (document.hidden || followed === "") return;
  source = openEventStream(`/v1/live?user=${encodeURIComponent(followed)}`, {
    opened() {
      streaming.set(true);
      void loadHistory();
    },
    event(name, data) {
      if (name === "second") takeSeconds([...seconds.get(), JSON.parse(data) as LiveSecond]);
      else if (name === "way") {
        const atMs = performance.now();
        const step = JSON.parse(data) as WayStep;
        for (const listener of wayListeners) listener(step, atMs);
      }
    },
    ended() {
      source = undefined;
      streaming.set(false);
      retry = setTimeout(connect, streamAgainMs);
    },
  });
}

async function loadHistory(): Promise<void> {
  try {
    const { seconds: past } = await ask<HistoryAnswer>("GET", "/v1/history");
    const last = past.at(-1)?.atMs ?? 0;
    takeSeconds([...past, ...seconds.get().filter(({ atMs }) => atMs > last)]);
  } catch {
    // The stream brings the next ones.
  }
  await loadTraining();
}

function takeSeconds(all: LiveSecond[]): void {
  seconds.set(all.slice(-secondsMax));
  const now = all.at(-1)?.training;
  if (now !== undefined) training.set(now);
}

export async function loadTraining(): Promise<void> {
  try {
    training.set(await ask<TrainingStatus>("GET", "/v1/training"));
  } catch (thrown) {
    const { code } = refusedOf(thrown);
    if (code === "not-found" || code === "unsupported") training.set("none");
  }
}

async function tick(): Promise<void> {
  // While a token is being typed nothing is asked: it would be refused again.
  if (!document.hidden && tokenWanted.get() === undefined) {
    try {
      const answer = await ask<StatusAnswer>("GET", "/v1/status", undefined, statusTimeoutMs);
      status.set(answer);
      gone.set(undefined);
    } catch (thrown) {
      gone.set(refusedOf(thrown));
    }
  }
  setTimeout(() => void tick(), statusEveryMs);
}

/** Begins asking; once. */
export function watchServer(): void {
  document.addEventListener("visibilitychange", connect);
  token.watch(connect);
  void tick();
}
