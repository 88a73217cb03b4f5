// A chart over time (uPlot on canvas) with what a canvas cannot tell: a legend in words that gives the values of now, or of the moment under the pointer.
// The objective is drawn as a dashed line and always in sight; stretches of another kind (training off) lie behind the lines as a shade.
// Invariants: 1. an unknown value is a gap, never 0  2. all charts of a page share one pointer  3. colours come from the tokens and follow the theme.
// Cost: a chart is made anew only when its width, its theme or its lines change; a new second only sets its data (at most 900 points).

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { colourOf, colours } from "../live/theme.ts";
import { useStore } from "../live/store.ts";

export interface Line {
  readonly name: string;
  /** A token of the colours, e.g. `series-1`. */
  readonly colour: string;
  /** One a time; null where nothing is known. */
  readonly values: readonly (number | null)[];
}

export interface ChartProps {
  readonly title: string;
  /** What the page's reader should know of it. */
  readonly about?: string;
  /** Seconds since 1970, ascending. */
  readonly times: readonly number[];
  /** Seconds from point to point; where more than three times that is missing, the lines have a gap. */
  readonly everyS: number;
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  readonly objective?: { readonly value: number; readonly name: string };
  /** Logarithmic: latencies, where 1 and 100 must both be readable. */
  readonly log?: boolean;
  readonly fromZero?: boolean;
  /** Seconds: from, to. */
  readonly shades?: readonly (readonly [number, number])[];
  readonly shadeName?: string;
}

const heightPx = 176;

export const clockOf = (seconds: number): string => new Date(seconds * 1_000).toLocaleTimeString("en-GB");

export function Chart(props: ChartProps) {
  const { title, about, times, lines, format, objective, shades, shadeName } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const newest = useRef(props);
  newest.current = props;
  const [width, setWidth] = useState(0);
  const [under, setUnder] = useState<number | undefined>(undefined);
  const colour = useStore(colours);

  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    watch.observe(place.current!);
    return () => watch.disconnect();
  }, []);

  const shape = lines.map((line) => line.name).join();
  useEffect(() => {
    if (width === 0) return;
    const made = new uPlot(optionsOf(newest, width, setUnder), dataOf(newest.current), place.current!);
    plot.current = made;
    return () => {
      plot.current = undefined;
      made.destroy();
    };
  }, [width, colour, shape]);

  useEffect(() => plot.current?.setData(dataOf(newest.current)), [times, lines, shades]);

  const at = under === undefined ? times.length - 1 : times.indexOf(under);
  const valueOf = (line: Line): string => {
    const value = line.values[at];
    return value === undefined || value === null ? "–" : format(value);
  };
  return (
    <figure class="panel chart">
      <figcaption>
        <h2>{title}</h2>
        {about !== undefined && <p class="muted">{about}</p>}
      </figcaption>
      <ul class="legend">
        {lines.map((line) => (
          <li key={line.name}>
            <i aria-hidden="true" style={{ background: `var(--${line.colour})` }} />
            {line.name} <b>{valueOf(line)}</b>
          </li>
        ))}
        {objective !== undefined && (
          <li>
            <i aria-hidden="true" class="legend-dashed" /> {objective.name} <b>{format(objective.value)}</b>
          </li>
        )}
        {shadeName !== undefined && (shades ?? []).length > 0 && (
          <li>
            <i aria-hidden="true" class="legend-shade" /> {shadeName}
          </li>
        )}
        <li class="legend-time">{under === undefined ? (times.length === 0 ? "" : "now") : `at ${clockOf(under)}`}</li>
      </ul>
      <div ref={place} class="plot" role="img" aria-label={`${title} over time; the values of now stand in the legend`} style={{ height: `${heightPx}px` }} />
      {times.length === 0 && <p class="chart-empty muted">No points yet.</p>}
    </figure>
  );
}

function dataOf({ times, lines, objective, everyS }: ChartProps): uPlot.AlignedData {
  const at: number[] = [];
  const rows: (number | null)[][] = lines.map(() => []);
  for (const [index, time] of times.entries()) {
    const before = times[index - 1];
    if (before !== undefined && time - before > 3 * everyS) {
      at.push(before + everyS);
      for (const row of rows) row.push(null);
    }
    at.push(time);
    for (const [line, row] of rows.entries()) row.push(lines[line]!.values[index] ?? null);
  }
  if (objective !== undefined) rows.push(at.map(() => objective.value));
  return [at, ...rows];
}

function optionsOf(newest: { readonly current: ChartProps }, width: number, setUnder: (seconds: number | undefined) => void): uPlot.Options {
  const { lines, objective, log, fromZero } = newest.current;
  const [muted, grid, shade] = [colourOf("muted"), colourOf("line"), colourOf("shade")];
  const font = `12px ${getComputedStyle(document.documentElement).fontFamily}`;
  const axis = { stroke: muted, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width,
    height: heightPx,
    legend: { show: false },
    cursor: { sync: { key: "console" }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
    scales: {
      y: {
        distr: log === true ? 3 : 1,
        ...(log === true ? {} : { range: (_plot: uPlot, low: number, high: number) => rangeOf(low, high, fromZero === true) }),
      },
    },
    axes: [
      { ...axis, size: 26, gap: 6, space: 90, values: (_plot, splits) => splits.map(clockOf) },
      {
        ...axis,
        size: 66,
        gap: 6,
        values: (_plot, splits) => splits.map((value) => (value === null ? "" : newest.current.format(value))),
        ...(log === true
          ? { splits: (_plot: uPlot, _axis: number, low: number, high: number) => decadesOf(low, high), filter: (_plot: uPlot, splits: number[]) => splits }
          : {}),
      },
    ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => ({ label: line.name, stroke: colourOf(line.colour), width: 1.75, points: { show: false }, spanGaps: false })),
      ...(objective === undefined ? [] : [{ label: objective.name, stroke: colourOf("objective"), width: 1.5, dash: [6, 5], points: { show: false } }]),
    ],
    hooks: {
      setCursor: [(plot) => setUnder(typeof plot.cursor.idx === "number" ? plot.data[0][plot.cursor.idx] : undefined)],
      drawClear: [
        (plot) => {
          const { left, top, width: wide, height } = plot.bbox;
          plot.ctx.fillStyle = shade;
          for (const [from, to] of newest.current.shades ?? []) {
            const begin = Math.max(left, plot.valToPos(from, "x", true));
            const end = Math.min(left + wide, plot.valToPos(to, "x", true));
            if (end > begin) plot.ctx.fillRect(begin, top, end - begin, height);
          }
        },
      ],
    },
  };
}

/** 1, 2, 5, 10, ...; of a long way only the powers of ten. */
function decadesOf(low: number, high: number): number[] {
  const steps = high / low > 50 ? [1] : [1, 2, 5];
  const splits: number[] = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) splits.push(...steps.map((step) => step * power));
  return splits.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

/** Some air above and below; a flat line gets a range too. */
function rangeOf(low: number | null, high: number | null, fromZero: boolean): [number, number] {
  if (low === null || high === null) return [0, 1];
  const bottom = fromZero ? Math.min(0, low) : low;
  const air = Math.max((high - bottom) * 0.12, Math.abs(high) * 0.01, 1e-6);
  return [fromZero ? bottom : bottom - air, high + air];
}
