/** The page: a text in, labels or ranked candidates out, with the time it took. */
import { Model } from "./model.js";

const SHOWN = 20;
const TURN_MS = 50; // the page is painted this often while many candidates are compared
const part = (id) => document.getElementById(id);
const status = part("status");
let asked = 0; // of several questions at a time the last one counts

function tell(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} could not be loaded: ${response.status}`);
  return response;
}

async function load() {
  const json = async (name) => (await fetched(name)).json();
  const bytes = async (name) => new Uint8Array(await (await fetched(name)).arrayBuffer());
  const [site, ...parts] = await Promise.all([
    json("site.json"),
    json("tokenizer.json"),
    bytes("model.onnx"),
    bytes("lib/onnxruntime.wasm"),
  ]);
  return [site, await Model.open(site, ...parts)];
}

/** Rows to show, best first, and how many were computed: [{name, score, share, chosen}], share 0..1 or null. */
async function compute(model, text, stillAsked) {
  const { spec } = model;
  if (spec.two_texts) return compared(model, text, stillAsked);
  const answer = await model.answer({ text });
  if (!answer.probabilities) return [{ name: spec.labels[0], score: answer.score, share: null, chosen: false }];
  return Object.entries(answer.probabilities)
    .map(([name, share]) => ({ name, score: share, share, chosen: name === answer.label }))
    .sort((a, b) => b.score - a.score);
}

async function compared(model, text, stillAsked) {
  const candidates = part("others").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const rows = [];
  let turn = performance.now();
  for (const [place, name] of candidates.entries()) {
    const { label, score } = await model.compare(text, name);
    const labelled = label !== undefined;
    const chosen = labelled && (model.spec.positive == null || label === model.spec.positive);
    rows.push({ name, score, label, share: labelled ? score : null, chosen });
    if (performance.now() - turn < TURN_MS) continue;
    tell(`${place + 1} of ${candidates.length} candidates …`);
    await new Promise((resolve) => setTimeout(resolve));
    if (!stillAsked()) return rows;
    turn = performance.now();
  }
  return rows.sort((a, b) => b.score - a.score);
}

function element(kind, name, text) {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}

function bar(share) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("aria-hidden", "true");
  const filled = document.createElementNS(space, "rect");
  filled.setAttribute("width", `${100 * share}%`);
  filled.setAttribute("height", "100%");
  picture.append(filled);
  return picture;
}

function item({ name, label, score, share, chosen }, spec) {
  const made = element("li", chosen ? "chosen" : "", "");
  if (share !== null) made.append(bar(share));
  made.append(element("span", "name", name));
  const mark = label === undefined ? (chosen ? "answer" : "") : spec.positive == null ? label : chosen ? "match" : "";
  if (mark) made.append(element("span", "mark", mark));
  const number = element("data", "", share === null ? score.toFixed(3) : `${(100 * share).toFixed(1)} %`);
  number.value = score;
  made.append(number);
  return made;
}

async function ask(model) {
  const text = part("text").value.trim();
  const mine = ++asked;
  const start = performance.now();
  const rows = text ? await compute(model, text, () => mine === asked) : [];
  if (mine !== asked) return;
  const took = performance.now() - start;
  part("answers").replaceChildren(...rows.slice(0, SHOWN).map((row) => item(row, model.spec)));
  part("result").hidden = rows.length === 0;
  const of = model.spec.two_texts ? `${rows.length} compared` : "answered";
  const cut = rows.length > SHOWN ? `, the best ${SHOWN} shown` : "";
  if (rows.length) tell(`${of} in ${took.toFixed(took < 10 ? 1 : 0)} ms${cut}`);
  else tell(text ? "There is nothing to compare with: give a candidate." : "Type a text.", true);
}

function show(site) {
  part("examples").append(...site.examples.map((text) => new Option(text, text)));
  part("text").value ||= site.examples[0] ?? "";
  part("others").value = site.candidates.join("\n");
  part("candidates").hidden = !site.spec.two_texts;
}

function loaded() {
  const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  const sum = entries.reduce((total, entry) => total + entry.encodedBodySize, 0);
  part("loaded").textContent = `Loaded once: ${(sum / 1e6).toFixed(1)} MB.`;
}

const shown = (work) => work.catch((error) => tell(`This did not work: ${error.message}`, true));

async function start() {
  const [site, model] = await load();
  show(site);
  part("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    shown(ask(model));
  });
  part("ask").querySelector("button").disabled = false;
  await ask(model);
  performance.mark("first-answer");
  loaded();
}

shown(start());
