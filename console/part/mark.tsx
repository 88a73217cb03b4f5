// A word with a ground of its own: a state. The word says it, the colour only helps.

export type MarkKind = "good" | "wait" | "bad" | "plain";

export function Mark({ kind, text }: { kind: MarkKind; text: string }) {
  return (
    <span class="mark" data-kind={kind}>
      {text}
    </span>
  );
}
