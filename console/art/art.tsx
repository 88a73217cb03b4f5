// The picture of an item, drawn from what it is: the category gives subject and hue, the item's id everything else. No image files, the same on every machine.
// Cost: some 20 shapes; a feed of 12 cards is drawn in a few milliseconds.

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { drawsOf, hashOf } from "./seeded.ts";
import { type Brush, subjects } from "./subjects.tsx";

const hues: Readonly<Record<string, number>> = {
  games: 285,
  music: 350,
  chat: 240,
  sport: 150,
  cooking: 50,
  art: 20,
  science: 265,
  travel: 215,
  animals: 115,
  crafts: 75,
  learning: 185,
  markets: 325,
};
const names = Object.keys(subjects);

export function hueOf(category: string): number {
  return hues[category] ?? hashOf(category) % 360;
}

interface ArtProps {
  readonly category: string;
  readonly about: string;
  readonly place: string;
}

/** `about`: what the picture depends on besides the category; `place` keeps ids of gradients apart where an item is drawn twice. */
export function Art({ category, about, place }: ArtProps) {
  return useMemo(() => drawn(category, about, place), [category, about, place]);
}

function drawn(category: string, about: string, place: string): ComponentChildren {
  const draw = drawsOf(about);
  const hue = hueOf(category) + (draw() - 0.5) * 70;
  const brush: Brush = {
    draw,
    between: (low, high) => low + draw() * (high - low),
    tone: (lightness, chroma = 0.1, turn = 0) => `oklch(${lightness} ${chroma} ${((hue + turn) % 360).toFixed(0)})`,
  };
  const subject = subjects[Object.hasOwn(subjects, category) ? category : names[hashOf(category) % names.length]!]!;
  const id = `sky-${place}-${hashOf(`${category}${about}`).toString(36)}`;
  const late = draw() < 0.5;
  // Where the picture is looked at from: a little nearer, further left, from the other side.
  const zoom = 1 + draw() * 0.28;
  const view = `translate(${((draw() - 0.5) * 320 * (zoom - 1)).toFixed(1)} 0) translate(160 90) scale(${(draw() < 0.5 ? -zoom : zoom).toFixed(3)} ${zoom.toFixed(3)}) translate(-160 -90)`;
  const shapes: ComponentChildren = subject(brush);
  return (
    <svg class="art" viewBox="0 0 320 180" preserveAspectRatio="xMidYMid slice" aria-hidden="true" focusable="false">
      <defs>
        <linearGradient id={id} x1="0" y1="0" x2={late ? "0.35" : "0"} y2="1">
          <stop offset="0" stop-color={brush.tone(late ? 0.32 : 0.62, 0.09)} />
          <stop offset="1" stop-color={brush.tone(late ? 0.56 : 0.83, 0.09, 38)} />
        </linearGradient>
      </defs>
      <rect width="320" height="180" fill={`url(#${id})`} />
      <g transform={view}>{shapes}</g>
    </svg>
  );
}
