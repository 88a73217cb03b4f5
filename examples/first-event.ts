// The first own event with the client: two items, one click, one question.
//   npm start                          in one terminal
//   node examples/first-event.ts       in another; an address other than http://127.0.0.1:8080 as its argument
// In your own project the first line reads: import { Client } from "millrace";

import { Client } from "#sdk/index";

const client = new Client(process.argv[2] ?? "http://127.0.0.1:8080");
await client.ready();

await client.items.put([
  { id: "m-1", title: "Noodle night", category: "cooking" },
  { id: "m-2", title: "Late jazz", category: "music" },
]);

const sent = await client.events.send({ type: "click", user: "ann", item: "m-1" });
console.log(`the click is in the log, offset ${sent.offset}, acknowledged at durability ${sent.durability}`);

const answer = await client.recommend({ pipeline: "home", user: "ann", n: 5, minOffset: sent.offset });
for (const { id, title, reasons } of answer.items) console.log(`${id}  ${title ?? ""}  because: ${reasons.map((reason) => reason.text).join("; ")}`);
