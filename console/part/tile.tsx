// One figure of now with its objective. Kept or broken is said in words and by a sign, not by colour alone.

interface TileProps {
  readonly name: string;
  /** Undefined: not known. */
  readonly value: string | undefined;
  readonly unit?: string;
  readonly more?: string;
  /** Whether the objective is kept; undefined where there is none or nothing to compare. */
  readonly kept?: boolean | undefined;
}

export function Tile({ name, value, unit, more, kept }: TileProps) {
  return (
    <div class="tile" data-kept={kept}>
      <dt>{name}</dt>
      <dd>
        <b>{value ?? "–"}</b>
        {value !== undefined && unit !== undefined && <small> {unit}</small>}
        <p>
          {kept !== undefined && (
            <span class="tile-kept">
              <span aria-hidden="true">{kept ? "✓" : "▲"}</span> {kept ? "within" : "over"}{" "}
            </span>
          )}
          {more}
        </p>
      </dd>
    </div>
  );
}
