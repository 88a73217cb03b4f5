// Which of 256 parts an id belongs to: maps and sets of ids are cut into parts, since a native one doubles itself in one go.
// Not a hash for files or for security: it reads the last three characters, where ids differ most (counters, random tails).
// Ids that end alike make parts uneven, which costs a longer doubling and nothing else.

export const partCount = 256;

export function partOf(id: string): number {
  const end = id.length - 1;
  return (id.charCodeAt(end) * 31 + (end > 0 ? id.charCodeAt(end - 1) * 7 : 0) + (end > 1 ? id.charCodeAt(end - 2) : 0)) & (partCount - 1);
}
