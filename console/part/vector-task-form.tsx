// Tells a task what to do, a new one or one that is there: its configuration as JSON, as in the configuration file. The server checks it and says what is wrong.

import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import type { VectorTaskConfig } from "#wire/vector-task-config";
import { Refused, refusedOf } from "../live/ask.ts";
import { changeTask, makeTask } from "../live/vector-engine.ts";
import { RefusedNotice } from "./notice.tsx";

const sample = {
  source: { files: ["/data/items.parquet"], id: "id", vector: "vector" },
  metric: "cosine",
  recallTarget: 0.99,
  schedule: { everySeconds: 3_600 },
};

interface VectorTaskFormProps {
  /** Undefined: a new task. */
  readonly task?: { readonly name: string; readonly edition: number; readonly config: VectorTaskConfig };
  readonly onDone: (said: string) => void;
}

export function VectorTaskForm({ task, onDone }: VectorTaskFormProps) {
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const [asking, setAsking] = useState(false);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const form = event.currentTarget;
    const given = new FormData(form);
    const text = (field: string): string => {
      const value = given.get(field);
      return typeof value === "string" ? value.trim() : "";
    };
    setAsking(true);
    setRefused(undefined);
    try {
      const config = readJson(text("config"));
      if (task === undefined) {
        const name = text("name");
        await makeTask(name, config);
        form.reset();
        onDone(`${name} is made. It builds by its schedule, or when you run it.`);
      } else {
        const { edition } = await changeTask(task.name, task.edition, config);
        onDone(`${task.name} is changed: edition ${edition}.`);
      }
    } catch (thrown) {
      setRefused(refusedOf(thrown));
    }
    setAsking(false);
  };
  return (
    <form class="form" onSubmit={(event) => void submit(event)}>
      {task === undefined && (
        <label>
          Name
          <input name="name" required maxLength={64} spellcheck={false} autocomplete="off" placeholder="items" />
        </label>
      )}
      <label>
        {task === undefined ? "What it does, as JSON" : `What ${task.name} does, as JSON`}
        <textarea name="config" rows={10} required spellcheck={false} defaultValue={JSON.stringify(task?.config ?? sample, null, 2)} />
      </label>
      {refused !== undefined && <RefusedNotice refused={refused} />}
      <div>
        <button type="submit" class="strong" disabled={asking}>
          {task === undefined ? "Make the task" : `Change ${task.name}`}
        </button>
      </div>
    </form>
  );
}

function readJson(text: string): VectorTaskConfig {
  try {
    return JSON.parse(text) as VectorTaskConfig;
  } catch (thrown) {
    throw new Refused("invalid", `This is no JSON: ${thrown instanceof Error ? thrown.message : String(thrown)}`, "correct it, then send it again.");
  }
}
