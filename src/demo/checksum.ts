// One number for a whole world as it stands: two machines, or two ways to the same moment, agree exactly when it is equal.
// Why rounded: the last bit of exp and log may differ between engines; six digits are far finer than anything that is decided by them.

import { worldVersion } from "./parameters.ts";
import type { World } from "./world.ts";

/** 32 bits over the rooms' rows, tastes and probabilities at the world's moment, as 8 hexadecimal digits. FNV-1a. */
export function worldChecksum(world: World): string {
  let hash = 0x811c9dc5;
  const add = (text: string): void => {
    for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  };
  add(`version ${worldVersion}`);
  for (let slot = 0; slot < world.rooms.slots; slot += 1) add(JSON.stringify(world.rooms.row(slot)));
  for (let viewer = 0; viewer < world.tastes.viewers; viewer += 1) {
    add(JSON.stringify(world.tastes.row(viewer)));
    const slot = (viewer * 7) % world.rooms.slots;
    add(world.clickProbability(viewer, slot, viewer % 20, world.nowMs).toFixed(6));
  }
  return (hash >>> 0).toString(16).padStart(8, "0");
}
