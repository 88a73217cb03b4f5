// A collection of vectors: write, search, filter, and the chain from a user to what is near. docs/vectors.md says what to start first.
//   node examples/vectors.ts [PORT]     PORT: of the server's Redis protocol; it has a collection `films` of 4 numbers
// In your own project the first line reads: import { VectorClient, vectorChain } from "millrace";

import { VectorClient, vectorChain } from "#sdk/index";

const vectors = await VectorClient.connect({ port: Number(process.argv[2] ?? 6390) });
const films = vectors.collection("films");

// Rows of numbers, one after the other, with attributes that filters read. Every search from now on finds them.
const rows = [
  { title: "Alien", year: 1979, vector: [0.9, 0.1, 0, 0.2] },
  { title: "Dune", year: 1984, vector: [0.7, 0.4, 0.1, 0] },
  { title: "Paris, Texas", year: 1984, vector: [0, 0.2, 0.9, 0.1] },
];
const added = await films.add(
  rows.map(({ title }) => title),
  Float32Array.from(rows.flatMap(({ vector }) => vector)),
  rows.map(({ year }) => JSON.stringify({ year })),
);
console.log(`${added} new, ${await films.count()} in all`);

// By a film, by numbers, and only among those of a year.
const like = await films.search({ element: "Alien" }, { count: 2 });
console.log(`like Alien: ${like.elements.join(", ")}; cosine ${like.scores[1]!.toFixed(2)}`);
const of1984 = await films.search(Float32Array.of(1, 0, 0, 0), { count: 1, filter: ".year == 1984" });
console.log(`nearest of 1984: ${of1984.elements[0]!}`);

// From who somebody is to what is near: here the profile is the film that was liked last, its numbers are the features, and the model passes them on.
const chain = vectorChain({
  profile: (ids: readonly string[]) => ids.map((id) => (id === "ann" ? "Dune" : undefined)),
  features: async (liked) => {
    const { vectors: numbers, dims } = await films.get(liked);
    return liked.map((_, i) => numbers.subarray(i * dims, (i + 1) * dims));
  },
  model: (features) => ({ dims: 4, vectors: Float32Array.from(features.flatMap((numbers) => [...numbers])) }),
  search: films,
});
const { answers } = await chain.run({ ids: ["ann"] }, { count: 2 });
console.log(`for ann: ${answers![0]!.map(({ element }) => element).join(", ")}`);
vectors.close();
