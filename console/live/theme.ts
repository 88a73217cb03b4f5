// Light, dark, or as the system says. Charts are drawn on canvas and must be drawn again when it changes.

import { keep, kept } from "./keep.ts";
import { store } from "./store.ts";

export type Theme = "auto" | "light" | "dark";
const order: readonly Theme[] = ["auto", "light", "dark"];

export const theme = store<Theme>(order.find((name) => name === kept("theme")) ?? "auto");
/** Counts changes of the colours, also those by the system. */
export const colours = store(0);

function apply(): void {
  document.documentElement.dataset["theme"] = theme.get();
  colours.set(colours.get() + 1);
}

apply();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);

export function nextTheme(): void {
  theme.set(order[(order.indexOf(theme.get()) + 1) % order.length]!);
  keep("theme", theme.get());
  apply();
}

/** A token's colour of now, as a canvas takes it. */
export function colourOf(token: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
