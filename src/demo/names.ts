// The words of the demo world: categories with their topics, languages, moods, formats; titles stand in titles.ts. Only for people to read; no number depends on them.
// Invariant: the order is part of the world (index = number of the category or topic), so append, never reorder: the golden checksum would change.

export interface CategoryWords {
  readonly name: string;
  readonly topics: readonly [string, string, string, string];
}

export const categoryWords: readonly CategoryWords[] = [
  { name: "games", topics: ["shooters", "strategy", "speedruns", "retro games"] },
  { name: "music", topics: ["piano", "guitar", "karaoke", "beat making"] },
  { name: "chat", topics: ["late talk", "question hour", "story time", "advice"] },
  { name: "sport", topics: ["football", "climbing", "table tennis", "cycling"] },
  { name: "cooking", topics: ["noodles", "baking", "street food", "coffee"] },
  { name: "art", topics: ["portraits", "pixel art", "pottery", "calligraphy"] },
  { name: "science", topics: ["night sky", "chemistry", "robots", "mathematics"] },
  { name: "travel", topics: ["city walks", "trains", "mountains", "islands"] },
  { name: "animals", topics: ["cats", "dogs", "aquariums", "bird nests"] },
  { name: "crafts", topics: ["woodwork", "knitting", "miniatures", "repairs"] },
  { name: "learning", topics: ["languages", "programming", "chess", "study rooms"] },
  { name: "markets", topics: ["second hand", "sneakers", "plants", "tea"] },
];

export const languageWords: readonly string[] = ["en", "es", "zh", "pt"];
export const moodWords: readonly string[] = ["calm", "loud", "funny", "serious", "late", "cosy"];
export const formatWords: readonly string[] = ["solo", "duo", "guests", "contest"];
