// The writer of the test for vectors that are searched while they change: 64 rows, all numbers of a row equal while it is whole, one in eleven hidden.

import { joinMemory, type SharedPlace, writingBody } from "#kernel/writing-thread.fuzz";
import { LiveVectors } from "./live-vectors.ts";

export default writingBody((place: SharedPlace) => {
  const vectors = LiveVectors.attach(joinMemory(place), place.at);
  const values = new Float32Array(vectors.dims);
  return (write) => {
    const row = (write * 7) % 64;
    if (write % 11 === 0) vectors.hide(row);
    else vectors.write(row, values.fill(write % 100));
  };
});
