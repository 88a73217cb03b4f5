// How far back the charts of a page reach.

export function LastMinutes({ value, choices, onChoose }: { value: number; choices: readonly number[]; onChoose: (minutes: number) => void }) {
  return (
    <label>
      Show the last
      <select value={String(value)} onChange={(event) => onChoose(Number(event.currentTarget.value))}>
        {choices.map((minutes) => (
          <option key={minutes} value={String(minutes)}>
            {minutes === 1 ? "minute" : minutes === 60 ? "hour" : `${minutes} minutes`}
          </option>
        ))}
      </select>
    </label>
  );
}
