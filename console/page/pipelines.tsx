export function Pipelines() {
  return <h1>Pipelines</h1>;
}
