/** Run by node where a site is made: requests on stdin, the answers of the very modules that the site ships. */
import { readFileSync } from "node:fs";
import { Model } from "./model.js";

const bytes = (name) => readFileSync(new URL(name, import.meta.url));
const json = (name) => JSON.parse(bytes(name));
const model = await Model.open(json("site.json"), json("tokenizer.json"), bytes("model.onnx"), bytes("lib/onnxruntime.wasm"));
const answers = [];
for (const request of JSON.parse(readFileSync(0))) answers.push(await model.answer(request));
console.log(JSON.stringify(answers));
