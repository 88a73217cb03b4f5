// Asks the server round after round as long as a page stands: slowly while one looks, quickly for a while after a change from here, not at all while the page is hidden.
// Invariants: 1. one round at a time (a second one only right after a change)  2. a round that fails leaves the last figures standing, and the next one comes
// 3. nothing is set once the page was left.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Refused, refusedOf } from "./ask.ts";

const askEveryMs = 2_000;
const askEveryMsEager = 500;
const eagerMs = 10_000;
/** A longer pause between two rounds is none of the stretches that rates are means of. */
const stretchMsMax = 5 * askEveryMs;

export const roundsEveryS = askEveryMs / 1_000;

export interface Rounds {
  /** Why the last round failed. */
  readonly refused: Refused | undefined;
  /** Counts the rounds: what has to be asked again with each follows it. */
  readonly rounds: number;
  /** Asks at once: something was changed. */
  readonly refresh: () => void;
}

/** `isEager`: something changes by itself, so that it is asked as often as after a change. Both are to be the same functions at every call. */
export function useRounds(round: () => Promise<void>, isEager: () => boolean): Rounds {
  const [state, setState] = useState<{ readonly rounds: number; readonly refused: Refused | undefined }>({ rounds: 0, refused: undefined });
  const [wanted, setWanted] = useState(0);
  const eagerUntilMs = useRef(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let left = false;
    const again = async (): Promise<void> => {
      if (!document.hidden) {
        const refused = await round().then(
          () => undefined,
          (thrown: unknown) => refusedOf(thrown),
        );
        if (!left) setState(({ rounds }) => ({ rounds: rounds + 1, refused }));
      }
      const eager = performance.now() < eagerUntilMs.current || isEager();
      if (!left) timer = setTimeout(() => void again(), eager ? askEveryMsEager : askEveryMs);
    };
    void again();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [wanted, round, isEager]);
  const refresh = (): void => {
    eagerUntilMs.current = performance.now() + eagerMs;
    setWanted((times) => times + 1);
  };
  return { ...state, refresh };
}

/** Seconds between two rounds that a rate may be the mean of; undefined: after a pause it would say little of now, and two rounds in one moment would say too much. */
export function stretchS(fromMs: number, toMs: number): number | undefined {
  const ms = toMs - fromMs;
  return ms > stretchMsMax || ms < 200 ? undefined : ms / 1_000;
}
