// A table in a box of its own that scrolls sideways (and down where `tall`), so that the page never does; with the keyboard too, since the box takes the focus.

import type { ComponentChildren } from "preact";

interface ScrollTableProps {
  /** What it is a table of, for those who hear it: "the steps". */
  readonly about: string;
  /** One a column; the first is the heading of the rows' own headings. */
  readonly titles: readonly string[];
  /** Headings that are heard but not seen: the column says it by itself. */
  readonly unseen?: readonly string[];
  /** At most 60 % of the window's height: for tables of hundreds of rows. */
  readonly tall?: boolean;
  readonly class?: string;
  /** Its rows. */
  readonly children: ComponentChildren;
}

export function ScrollTable({ about, titles, unseen = [], tall = false, class: kind, children }: ScrollTableProps) {
  return (
    <div class={tall ? "scroll tall" : "scroll"} role="region" aria-label={`Table of ${about}`} tabIndex={0}>
      <table class={kind}>
        <thead>
          <tr>
            {titles.map((title) => (
              <th key={title} scope="col">
                {unseen.includes(title) ? <span class="unseen">{title}</span> : title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
