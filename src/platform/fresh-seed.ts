// The seed of a test that tries other cases each time: SEED when one is to be repeated, else FRESH_SEED where a whole run is to be repeatable (`.ci/run` derives it
// from the sources, so that a run that passed passes again), else the time of day.
// Who may use it: tests. Tests with a fixed seed read SEED alone.

/** At most 2^31 - 1. */
export function freshSeed(): number {
  const given = process.env["SEED"] ?? process.env["FRESH_SEED"];
  return given === undefined ? Date.now() % 1_000_000 : Number(given) % 2 ** 31;
}
