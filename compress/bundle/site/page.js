/** The page: a text in, labels or ranked candidates out, with the time it took. */
import { Model } from "./model.js";

const SHOWN = 20;
const TURN_MS = 50; // the page is painted this often while many candidates are compared
const part = (id) => document.getElementById(id);
const status = part("status");
let asked = 0; // of several questions at a time the last one counts

/** `aloud` is for screen readers, which hear the status and not the list; while busy they are not told. */
function tell(text, { aloud = "", busy = false, wrong = false } = {}) {
  status.setAttribute("aria-busy", busy);
  status.classList.toggle("wrong", wrong);
  status.replaceChildren(text);
  if (aloud) status.append(element("span", "aloud", ` ${aloud}`));
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} could not be loaded: ${response.status}`);
  return response;
}

async function load() {
  const json = async (name) => (await fetched(name)).json();
  const bytes = async (name) => new Uint8Array(await (await fetched(name)).arrayBuffer());
  const described = json("site.json");
  const [site, vectors, ...parts] = await Promise.all([
    described,
    described.then(({ spec }) => (spec.similarity ? bytes("candidates.bin") : null)),
    json("tokenizer.json"),
    bytes("model.onnx"),
    bytes("lib/onnxruntime.wasm"),
  ]);
  const model = await Model.open(site, ...parts);
  if (vectors) model.remember(site.candidates, vectors);
  return [site, model];
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
    const chosen = labelled && label === model.spec.positive;
    rows.push({ name, score, label, share: labelled ? score : null, chosen });
    if (performance.now() - turn < TURN_MS) continue;
    tell(`${place + 1} of ${candidates.length} candidates …`, { busy: true });
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

/** What stands beside a row's name: that it is the answer or a match, or the label of a pair. */
function marked({ label, chosen }, spec) {
  if (label !== undefined && spec.positive == null) return label;
  return chosen ? (label === undefined ? "answer" : "match") : "";
}

const told = ({ score, share }) => (share === null ? score.toFixed(3) : `${(100 * share).toFixed(1)} %`);

function item(row, spec) {
  const made = element("li", row.chosen ? "chosen" : "", "");
  if (row.share !== null) made.append(bar(row.share));
  made.append(element("span", "name", row.name));
  const mark = marked(row, spec);
  if (mark) made.append(element("span", "mark", mark));
  const number = element("data", "", told(row));
  number.value = row.score;
  made.append(number);
  return made;
}

/** "16 compared in 12 ms, 1 match, the best 10 shown" */
function summary(rows, took, spec) {
  const matches = rows.filter((row) => row.chosen).length;
  const parts = [`${spec.two_texts ? `${rows.length} compared` : "Answered"} in ${took.toFixed(took < 10 ? 1 : 0)} ms`];
  if (spec.two_texts && spec.positive != null) {
    parts.push(matches === 0 ? "no match" : matches === 1 ? "1 match" : `${matches} matches`);
  }
  if (rows.length > SHOWN) parts.push(`the best ${SHOWN} shown`);
  return parts.join(", ");
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
  if (!rows.length) {
    tell(text ? "There is nothing to compare with: give a candidate." : "Type a text.", { wrong: true });
    return;
  }
  const [best] = rows;
  const aloud = `First: ${[best.name, marked(best, model.spec), told(best)].filter(Boolean).join(", ")}`;
  tell(summary(rows, took, model.spec), { aloud });
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

const shown = (work) => work.catch((error) => tell(`This did not work: ${error.message}`, { wrong: true }));

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
