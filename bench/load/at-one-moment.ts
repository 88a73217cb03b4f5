// The difference of two numbers that move, of one moment: for scores that a trainer changes while they are asked for one after the other.
// How: the first is asked again behind the second, until both its answers are equal. What moves both (a bias) has then not moved in between.
// Why: between two answers of other moments lies what was learned meanwhile, at times hundreds of samples; a difference that began too high by it never rises again.

/** The first less the second, of one moment. Throws when they did not stand still `triesMax` times. */
export async function differenceAtOneMoment(first: () => Promise<number>, second: () => Promise<number>, triesMax: number): Promise<number> {
  let before = await first();
  for (let tries = 0; tries < triesMax; tries += 1) {
    const other = await second();
    const after = await first();
    if (after === before) return after - other;
    before = after;
  }
  throw new Error(`two numbers did not stand still while they were asked for, ${triesMax} times`);
}
