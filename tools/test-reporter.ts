// Reporter of node:test that writes what tools/test.ts needs, one JSON object a line, to a file.
// Why not a built-in one: the runner wants skip reasons, nesting and whole errors, and must survive a file that is killed in the middle.

import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

export type TestLine =
  | { readonly kind: "running"; readonly name: string }
  | { readonly kind: "note"; readonly text: string }
  | {
      readonly kind: "result";
      readonly name: string;
      readonly depth: number;
      readonly passed: boolean;
      /** Reason, or true when none was given. */
      readonly skipped?: string | boolean;
      readonly todo?: string | boolean;
      /** A suite is no test of its own unless it failed itself (in a hook); a parent that failed only through its subtests is not counted again. */
      readonly counts: boolean;
      readonly ms: number;
      readonly error?: string;
    };

interface Failure extends Error {
  readonly failureType?: string;
}

function lineOf(event: TestEvent): TestLine | undefined {
  switch (event.type) {
    case "test:dequeue":
      return { kind: "running", name: event.data.name };
    case "test:diagnostic":
      return { kind: "note", text: event.data.message };
    case "test:pass":
    case "test:fail": {
      const { name, nesting, details, skip, todo } = event.data;
      const failure = "error" in details ? (details.error as Failure) : undefined;
      return {
        kind: "result",
        name,
        depth: nesting,
        passed: event.type === "test:pass",
        ...(skip !== undefined && { skipped: skip }),
        ...(todo !== undefined && { todo }),
        counts: event.type === "test:pass" ? details.type !== "suite" : failure?.failureType !== "subtestsFailed",
        ms: details.duration_ms,
        ...(failure !== undefined && { error: inspect(failure.cause ?? failure, { breakLength: 140 }) }),
      };
    }
    default:
      return undefined;
  }
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    const line = lineOf(event);
    if (line !== undefined) yield `${JSON.stringify(line)}\n`;
  }
}
