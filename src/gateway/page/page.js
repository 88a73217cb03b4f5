/* global document, fetch, AbortSignal, setTimeout, location, navigator */
// What the page does: asks /v1/status once a second and draws it; asks for recommendations, sends events, shows the time each took.
// Invariants: 1. text of the server is only ever set as text, never as markup  2. one status request at a time, none while the page is hidden
// 3. when the server does not answer, the last numbers stay and the page says what to do.

const statusEveryMs = 1_000;
const statusTimeoutMs = 3_000;
const actions = ["click", "like", "watch", "share", "cart", "purchase"];
const itemsWanted = 8;

const $ = (id) => document.getElementById(id);

/** An element with text or children. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Sets text only when it changed, so that a selection and a screen reader are left in peace. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const whole = (number) => Math.round(number).toLocaleString("en-US");
const rate = (number) => (number >= 10 ? whole(number) : number.toFixed(1));
const ms = (number) => (number === 0 ? "0" : number >= 100 ? whole(number) : number >= 1 ? number.toFixed(1) : number.toFixed(2));
const bytes = (number) => (number >= 1 << 20 ? `${(number / (1 << 20)).toFixed(1)} MiB` : `${(number / 1024).toFixed(0)} KiB`);

function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1_000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}

/** One JSON request. Throws an Error whose message may be shown. */
async function ask(method, path, body, timeoutMs = 10_000) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal: AbortSignal.timeout(timeoutMs),
      ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
  } catch {
    throw new Error("The server does not answer. Is it running? Start it with `npm start` and this page goes on by itself.");
  }
  const answer = await response.json().catch(() => undefined);
  if (!response.ok) throw new Error(answer?.error?.message ?? `The server answered with status ${response.status}.`);
  return answer;
}

// ---- measured now --------------------------------------------------------------------------------------------------------------------------------

const tiles = [
  { id: "events", title: "Events a second", spark: true },
  { id: "asked", title: "Recommendations a second", spark: true },
  { id: "answer", title: "Answer, p50 / p99 ms" },
  { id: "fresh", title: "Event to feature, p50 / p99 ms" },
  { id: "items", title: "Items" },
  { id: "users", title: "Users" },
  { id: "offset", title: "Log offset" },
  { id: "durability", title: "Acknowledged at" },
  { id: "fallbacks", title: "Fallbacks / degraded" },
  { id: "stall", title: "Longest loop stall, ms" },
];
const sparkPoints = 60;
const history = { events: [], asked: [] };

for (const { id, title, spark } of tiles) {
  const tile = make("div", { class: "tile" }, make("dt", {}, title), make("dd", { id: `tile-${id}` }, "–"));
  if (spark) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${sparkPoints - 1} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("class", "spark");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.id = `spark-${id}`;
    svg.append(line);
    tile.append(svg);
  }
  $("tiles").append(tile);
}

function drawSpark(id, value) {
  const values = history[id];
  values.push(value);
  if (values.length > sparkPoints) values.shift();
  const top = Math.max(1, ...values);
  const from = sparkPoints - values.length;
  $(`spark-${id}`).setAttribute("points", values.map((one, at) => `${from + at},${(19 - (18 * one) / top).toFixed(1)}`).join(" "));
}

const tell = (id, text) => setText($(`tile-${id}`), text);
const both = ({ p50Ms, p99Ms, count }) => (count === 0 ? "–" : `${ms(p50Ms)} / ${ms(p99Ms)}`);

let before;

function drawStatus(status) {
  const apart = before === undefined || before.startedAtMs !== status.startedAtMs ? undefined : (status.nowMs - before.nowMs) / 1_000;
  if (apart > 0) {
    const events = (status.eventsAccepted - before.eventsAccepted) / apart;
    const asked = (status.recommendations - before.recommendations) / apart;
    tell("events", rate(events));
    tell("asked", rate(asked));
    drawSpark("events", events);
    drawSpark("asked", asked);
  }
  before = status;
  tell("answer", both(status.recommend));
  tell("fresh", both(status.eventToFeature));
  tell("items", whole(status.items));
  tell("users", whole(status.users));
  tell("offset", whole(status.logOffset));
  tell("durability", status.durability);
  tell("fallbacks", `${whole(status.fallbacks)} / ${whole(status.degraded)}`);
  tell("stall", status.loopStallMaxMs === undefined ? "–" : ms(status.loopStallMaxMs));
  setText($("about"), `version ${status.version}, up ${duration(status.nowMs - status.startedAtMs)}, ${whole(status.eventsAccepted)} events taken in`);
  drawMemory(status.memoryBytes);
  drawWork(status.work);
  drawEmpty(status);
}

function drawMemory(owners) {
  const rows = Object.entries(owners).sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...rows.map(([, size]) => size));
  $("memory").replaceChildren(
    ...rows.map(([owner, size]) =>
      make(
        "li",
        {},
        make("b", { title: owner }, owner),
        make("meter", { min: 0, max: most, value: size, "aria-hidden": "true" }),
        make("span", {}, bytes(size)),
      ),
    ),
  );
}

// ---- pipelines -----------------------------------------------------------------------------------------------------------------------------------

let graphs = [];
const stepFigures = new Map();

async function loadPipelines() {
  graphs = (await ask("GET", "/v1/pipelines")).pipelines;
  for (const id of ["pipeline", "shown"]) $(id).replaceChildren(...graphs.map(({ name }) => make("option", { value: name }, name)));
  drawGraph();
}

function drawGraph() {
  const graph = graphs.find(({ name }) => name === $("shown").value);
  stepFigures.clear();
  const stages = Map.groupBy(graph?.nodes ?? [], (node) => node.stage ?? 0);
  $("graph").replaceChildren(
    ...[...stages.values()].map((nodes) =>
      make(
        "li",
        {},
        make(
          "ul",
          { class: "stage" },
          ...nodes.map((node) => {
            const rows = make("p", {}, "not run yet");
            const times = make("p");
            stepFigures.set(node.id, { rows, times });
            return make("li", { class: "step", "data-kind": node.kind }, make("h4", {}, node.id), make("p", {}, node.kind), rows, times);
          }),
        ),
      ),
    ),
  );
}

function drawWork(work) {
  const mine = work.find(({ pipeline }) => pipeline === $("shown").value);
  if (mine === undefined) {
    setText($("work"), "Not asked yet since the start.");
    return;
  }
  const fallbacks = Object.entries(mine.fallbacks).map(([reason, count]) => `${whole(count)} ${reason}`);
  setText(
    $("work"),
    `${whole(mine.requests.count)} answers, ${ms(mine.requests.p50Ms)} ms at p50, ${ms(mine.requests.p99Ms)} ms at p99; fallbacks: ${fallbacks.length === 0 ? "none" : fallbacks.join(", ")}.`,
  );
  for (const { step, rowsIn, rowsOut, p50Ms, p99Ms, errors } of mine.steps) {
    const figures = stepFigures.get(step);
    if (figures === undefined) continue;
    setText(figures.rows, `${whole(rowsIn)} → ${whole(rowsOut)} rows`);
    setText(figures.times, `${ms(p50Ms)} / ${ms(p99Ms)} ms${errors > 0 ? `, ${whole(errors)} errors` : ""}`);
    figures.times.className = errors > 0 ? "bad" : "";
  }
}

$("shown").addEventListener("change", () => {
  drawGraph();
  if (before !== undefined) drawWork(before.work);
});

// ---- be a user -----------------------------------------------------------------------------------------------------------------------------------

$("action").replaceChildren(...actions.map((action) => make("option", { value: action }, action)));

let shownIds = new Map();
let asking = false;
/** The user whose items are on the page; a change of user is no change of the answer. */
let shownTo;

function notice(text, kind) {
  const box = $("empty");
  box.hidden = text === "";
  box.setAttribute("data-kind", kind);
  setText(box, text);
}

function drawEmpty(status) {
  if ($("items").childElementCount > 0 || asking || $("empty").getAttribute("data-kind") === "error") return;
  if (!status.ready) notice(`Not ready yet: ${status.waiting.join("; ")}.`, "wait");
  else if (status.items === 0) notice("There are no items yet. Put some with the commands under “Your own first event”, then ask again.", "empty");
  else notice("", "empty");
}

function drawItems(answer, user) {
  const known = shownTo === user ? shownIds : undefined;
  shownIds = new Map(answer.items.map(({ id }, at) => [id, at]));
  shownTo = user;
  $("items").replaceChildren(
    ...answer.items.map((item, at) => {
      const was = known?.get(item.id);
      const change = known === undefined ? "" : was === undefined ? "new" : was > at ? "up" : was < at ? "down" : "";
      const changed = { new: "new", up: `up from ${was + 1}`, down: `down from ${was + 1}` }[change] ?? "";
      const why = item.reasons.map(({ text, share }) => `${text} (${Math.round(share * 100)} %)`).join("; ");
      const name = make("span", { class: "name" }, item.title ?? item.id, make("span", { class: "tag" }, [item.category, changed].filter(Boolean).join(" · ")));
      const act = $("action").value;
      const button = make(
        "button",
        { type: "button", "aria-label": `${act} ${item.title ?? item.id}`, onclick: () => perform(item.id, at, answer.recommendationId) },
        act,
      );
      return make(
        "li",
        { class: "item", "data-change": change },
        make("span", { class: "rank" }, String(at + 1)),
        make("div", {}, name, make("p", { class: "why" }, why)),
        button,
      );
    }),
  );
  if (answer.items.length === 0) notice("The answer is empty: there is no available item yet. Put some with the commands below.", "empty");
  else notice(answer.degraded.length === 0 ? "" : `Degraded: ${answer.degraded.join(", ")}.`, "degraded");
}

$("action").addEventListener("change", () => {
  const act = $("action").value;
  for (const button of $("items").querySelectorAll("button")) {
    setText(button, act);
    button.setAttribute("aria-label", `${act} ${button.parentElement.querySelector(".name").firstChild.textContent}`);
  }
});

function drawTiming(...parts) {
  $("timing").replaceChildren(...parts.map((part) => (part.startsWith("→") ? make("i", {}, part) : make("span", {}, part))));
}

async function recommend(minOffset) {
  const user = $("user").value;
  const began = performance.now();
  const answer = await ask("POST", `/v1/recommend/${encodeURIComponent($("pipeline").value)}`, {
    user,
    n: itemsWanted,
    ...(minOffset === undefined ? {} : { minOffset }),
  });
  const tookMs = performance.now() - began;
  drawItems(answer, user);
  return { tookMs, serverMs: answer.tookMs };
}

/** One action at a time; what fails is shown where the items are. */
async function exclusively(work) {
  if (asking) return;
  asking = true;
  for (const button of document.querySelectorAll("#try button")) button.disabled = true;
  try {
    await work();
  } catch (thrown) {
    drawTiming();
    notice(thrown.message, "error");
  } finally {
    asking = false;
    for (const button of document.querySelectorAll("#try button")) button.disabled = false;
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  void exclusively(async () => {
    const { tookMs, serverMs } = await recommend();
    drawTiming(`answer ${ms(tookMs)} ms`, `→ of it ${ms(serverMs)} ms in the pipeline`);
  });
});

function perform(item, position, recommendationId) {
  const type = $("action").value;
  void exclusively(async () => {
    const began = performance.now();
    const taken = await ask("POST", "/v1/events", { type, user: shownTo, item, position, recommendationId });
    const sentMs = performance.now() - began;
    const { tookMs, serverMs } = await recommend(taken.offset);
    drawTiming(
      `${type} in the log (${taken.durability}) ${ms(sentMs)} ms`,
      "→",
      `next answer counts it ${ms(tookMs)} ms`,
      `→ of it ${ms(serverMs)} ms in the pipeline; together ${ms(sentMs + tookMs)} ms`,
    );
    $("items").querySelector("button")?.focus();
  });
}

// ---- your own first event ------------------------------------------------------------------------------------------------------------------------

const json = "-H 'content-type: application/json'";
const commands = [
  `curl -X PUT  ${location.origin}/v1/items ${json} \\`,
  `     -d '[{"id": "m-1", "title": "Noodle night", "category": "cooking"}, {"id": "m-2", "title": "Late jazz", "category": "music"}]'`,
  `curl -X POST ${location.origin}/v1/events ${json} \\`,
  `     -d '{"type": "click", "user": "ann", "item": "m-1"}'`,
  `curl -X POST ${location.origin}/v1/recommend/home ${json} \\`,
  `     -d '{"user": "ann", "n": 5}'`,
].join("\n");
$("curl").firstElementChild.textContent = commands;
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(commands);
  setText($("copy"), "Copied");
  setTimeout(() => setText($("copy"), "Copy"), 1_500);
});

// ---- the clock -----------------------------------------------------------------------------------------------------------------------------------

function drawState(state, text) {
  $("state").setAttribute("data-state", state);
  setText($("state"), text);
}

async function tick() {
  if (!document.hidden) {
    try {
      const status = await ask("GET", "/v1/status", undefined, statusTimeoutMs);
      drawState(status.ready ? "ready" : "wait", status.ready ? "ready" : `waiting: ${status.waiting.join("; ")}`);
      if (graphs.length === 0) await loadPipelines();
      drawStatus(status);
    } catch (thrown) {
      drawState("gone", "no answer");
      if ($("items").childElementCount === 0) notice(thrown.message, "wait");
    }
  }
  setTimeout(() => void tick(), statusEveryMs);
}

void tick();
