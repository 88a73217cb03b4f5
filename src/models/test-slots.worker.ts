// The writer of the test for item slots that are read while they change. Version v has v % tornSlotsMax + 1 slots, the first half of them linear, each with
// key (v, v ^ slot) and x = v: a row of two versions shows.

import { SlotRows } from "#extract/slot-rows";
import { joinMemory, type SharedPlace, writingBody } from "#kernel/writing-thread.fuzz";
import { ItemSlots } from "./item-slots.ts";

export const tornSlotsMax = 24;

export default writingBody((place: SharedPlace) => {
  const items = ItemSlots.attach(joinMemory(place), place.at);
  const rows = new SlotRows(1, 32);
  return (write) => {
    const version = write + 1;
    rows.clear();
    const count = (version % tornSlotsMax) + 1;
    for (let slot = 0; slot < count; slot += 1) {
      if (slot < count / 2) rows.addLinear(version, version ^ slot, version);
      else rows.addFull(version, version ^ slot, version);
    }
    rows.endRow();
    items.put(version % 4, rows, 0, version % 16 !== 3);
    if (version % 64 === 0) items.setAvailable(version % 4, false);
  };
});
