// The writer of the test for answers of the ranker while vectors change. Version v of a row: all zeros but the last number, v below 1,000.

import { writingBody } from "#kernel/writing-thread.fuzz";
import { LiveModel, type LiveModelTicket } from "#models/live-model";

export default writingBody((ticket: LiveModelTicket) => {
  const { machine, vectors } = LiveModel.attach(ticket, 1);
  const { factors } = machine;
  const row = new Float32Array(factors + 1);
  for (let item = 0; item < 200; item++) vectors.write(item, row);
  return (write) => {
    row[factors] = write % 1_000;
    vectors.write(write % 200, row);
  };
});
