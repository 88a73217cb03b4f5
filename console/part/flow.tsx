// The picture of a pipeline: stages from top to bottom, drawn as SVG by hand to the width that there is. Between two stages runs a band as wide as the rows that
// go on, so that one sees where candidates are found and where they are lost.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Step } from "./flow-steps.ts";
import { ms, whole } from "./figures.ts";

const gapX = 10;
const gapY = 26;
/** Below several boxes: their bands need room to turn. */
const gapTurn = 54;
/** Between two rows of boxes of one stage. */
const rowGap = 12;
const wideHeight = 46;
const tallHeight = 62;
const boxMin = 104;
const boxMax = 150;
const wideMax = 520;

interface Box {
  readonly step: Step;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

interface Layout {
  readonly stages: readonly (readonly Box[])[];
  readonly height: number;
}

function layoutOf(steps: readonly Step[], width: number): Layout {
  const byStage = new Map<number, Step[]>();
  for (const step of steps) byStage.set(step.stage, [...(byStage.get(step.stage) ?? []), step]);
  const stages: Box[][] = [];
  let y = 2;
  let gap = 0;
  for (const [, group] of [...byStage].sort((a, b) => a[0] - b[0])) {
    // A band that parts needs the same room as bands that meet.
    if (group.length > 1 && gap !== 0) y += gapTurn - gap;
    if (group.length === 1) {
      const wide = Math.min(width - 4, wideMax);
      stages.push([{ step: group[0]!, x: (width - wide) / 2, y, width: wide, height: wideHeight }]);
      y += wideHeight + gapY;
      gap = gapY;
      continue;
    }
    const columns = Math.max(1, Math.min(group.length, Math.floor((width + gapX) / (boxMin + gapX))));
    const lines = Math.ceil(group.length / columns);
    const perLine = Math.ceil(group.length / lines);
    const box = Math.min(boxMax, (width - 4 - gapX * (perLine - 1)) / perLine);
    stages.push(
      group.map((step, at) => {
        const line = Math.floor(at / perLine);
        const inLine = line === lines - 1 ? group.length - line * perLine : perLine;
        const left = (width - inLine * box - (inLine - 1) * gapX) / 2;
        return { step, x: left + (at % perLine) * (box + gapX), y: y + line * (tallHeight + rowGap), width: box, height: tallHeight };
      }),
    );
    gap = gapTurn;
    y += lines * (tallHeight + rowGap) - rowGap + gap;
  }
  return { stages, height: Math.max(0, y - gap + 2) };
}

export function Flow({ name, steps }: { name: string; steps: readonly Step[] }) {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    watch.observe(place.current!);
    return () => watch.disconnect();
  }, []);
  const { stages, height } = layoutOf(steps, width);
  const rows = rowsAfter(stages);
  const most = Math.max(1, ...rows.map((stage) => stage.reduce((sum, one) => sum + one, 0)));
  // The widest band takes most of the narrowest box that stands alone.
  const pixelsPerRow = (0.72 * Math.min(width - 4, wideMax)) / most;
  return (
    <div ref={place} class="flow">
      {width > 0 && (
        <svg width={width} height={height} role="img" aria-label={`The steps of ${name} from the sources to the answer; the table below has the same figures`}>
          {stages.map((boxes, at) =>
            at === 0 ? null : <Bands key={boxes[0]!.step.id} from={stages[at - 1]!} rows={rows[at - 1]!} to={boxes} pixelsPerRow={pixelsPerRow} />,
          )}
          {stages.flat().map((box) => (
            <StepBox key={box.step.id} {...box} />
          ))}
        </svg>
      )}
    </div>
  );
}

/** Rows that leave each box. A step that did not run lets pass what came; steps beside one another see the same rows and share the band. */
function rowsAfter(stages: readonly (readonly Box[])[]): number[][] {
  let came = 0;
  return stages.map((boxes) => {
    const rows = boxes.map(({ step: { kind, figures } }) => {
      if (kind === "source") return figures?.rowsOut ?? 0;
      return (figures?.rowsOut ?? came) / boxes.length;
    });
    came = rows.reduce((sum, one) => sum + one, 0);
    return rows;
  });
}

interface BandsProps {
  readonly from: readonly Box[];
  /** Leaving each of `from`. */
  readonly rows: readonly number[];
  readonly to: readonly Box[];
  readonly pixelsPerRow: number;
}

/** Bands side by side, in the order of their boxes, so that none covers another where they meet or part. */
function Bands({ from, rows, to, pixelsPerRow }: BandsProps) {
  const bands: { a: Box; b: Box; wide: number }[] = [];
  for (const [at, a] of from.entries()) for (const b of to) bands.push({ a, b, wide: (rows[at]! * pixelsPerRow) / to.length });
  // From left to right, or bands would cross where sources stand in several rows.
  bands.sort((one, other) => one.a.x - other.a.x || one.b.x - other.b.x);
  const wideOf = (box: Box): number => bands.filter(({ a, b }) => a === box || b === box).reduce((sum, { wide }) => sum + wide, 0);
  const next = new Map([...from, ...to].map((box) => [box, box.x + (box.width - wideOf(box)) / 2]));
  return (
    <g>
      {bands.map(({ a, b, wide }) => {
        const [x1, x2, y1, y2] = [next.get(a)!, next.get(b)!, a.y + a.height, b.y];
        next.set(a, x1 + wide);
        next.set(b, x2 + wide);
        const middle = y2 - Math.min(y2 - y1, gapTurn) / 2;
        const key = `${a.step.id} ${b.step.id}`;
        if (wide < 0.5) return <path key={key} class="flow-none" d={`M${x1} ${y1} C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`} />;
        const d = `M${x1} ${y1} C${x1} ${middle} ${x2} ${middle} ${x2} ${y2} h${wide} C${x2 + wide} ${middle} ${x1 + wide} ${middle} ${x1 + wide} ${y1}z`;
        return <path key={key} class="flow-band" data-idle={a.step.figures === undefined ? "" : undefined} d={d} />;
      })}
    </g>
  );
}

/** What fits; 6.6 is about a character of the small type. */
function cut(text: string, width: number): string {
  const characters = Math.max(4, Math.floor(width / 6.9));
  return text.length <= characters ? text : `${text.slice(0, characters - 1)}…`;
}

function StepBox({ step: { id, kind, figures }, x, y, width, height }: Box) {
  const wide = height === wideHeight;
  const rows =
    figures === undefined ? "not run" : kind === "source" ? `${whole(figures.rowsOut)} rows` : `${whole(figures.rowsIn)} → ${whole(figures.rowsOut)} rows`;
  const cost = figures === undefined ? "" : figures.errors > 0 ? `${whole(figures.errors)} errors` : `p99 ${ms(figures.p99Ms)} ms`;
  const right = x + width - 12;
  return (
    <g
      class="flow-step"
      data-kind={kind}
      data-idle={figures === undefined ? "" : undefined}
      data-failing={figures !== undefined && figures.errors > 0 ? "" : undefined}
    >
      <title>{`${id}: ${kind}, ${rows}${cost === "" ? "" : `, ${cost}`}`}</title>
      <rect x={x} y={y} width={width} height={height} rx="8" />
      <rect class="flow-edge" x={x} y={y + 8} width="4" height={height - 16} rx="2" />
      <text class="flow-name" x={x + 13} y={y + 20}>
        {cut(id, width - (wide ? 130 : 18))}
      </text>
      {wide ? (
        <>
          <text x={x + 13} y={y + 36}>
            {kind}
          </text>
          <text class="flow-rows" x={right} y={y + 20} text-anchor="end">
            {rows}
          </text>
          <text class="flow-cost" x={right} y={y + 36} text-anchor="end">
            {cost}
          </text>
        </>
      ) : (
        <>
          <text class="flow-rows" x={x + 13} y={y + 37}>
            {kind === "source" || figures === undefined ? rows : `${whole(figures.rowsOut)} rows`}
          </text>
          <text class="flow-cost" x={x + 13} y={y + 53}>
            {cost === "" ? kind : cost}
          </text>
        </>
      )}
    </g>
  );
}
