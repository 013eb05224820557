/** Run by node where a site is made: requests on stdin, the answers of the very modules that the site ships. */
import { readFileSync } from "node:fs";
import { Model } from "./model.js";

const bytes = (name) => readFileSync(new URL(name, import.meta.url));
const json = (name) => JSON.parse(bytes(name));
const site = json("site.json");
const model = await Model.open(site, json("tokenizer.json"), bytes("model.onnx"), bytes("lib/onnxruntime.wasm"));
if (site.spec.similarity) model.remember(site.candidates, bytes("candidates.bin"));
const { golden, compared } = JSON.parse(readFileSync(0));
const answers = [];
for (const request of golden) answers.push(await model.answer(request));
for (const { text, text_pair } of compared) answers.push(await model.compare(text, text_pair));
console.log(JSON.stringify(answers));
