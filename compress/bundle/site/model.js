/** A bundle's model in this browser: one WebAssembly thread, nothing is sent anywhere. */
import * as ort from "./lib/onnxruntime.js";
import { read } from "./answers.js";
import { Encoder } from "./text.js";

const EMBEDDING = "text_embedding";
const UNIT = 32767; // the code of 1 in candidates.bin

export class Model {
  #session;
  #encoder;
  #candidates = new Map();
  #query = { text: null };

  /**
   * @param site  site.json: spec and frames
   * @param tokenizer  content of tokenizer.json, parsed
   * @param model, runtime  bytes of model.onnx and of lib/onnxruntime.wasm
   */
  static async open(site, tokenizer, model, runtime) {
    ort.env.wasm.numThreads = 1; // more need headers that plain hosting does not send
    ort.env.wasm.wasmBinary = runtime;
    const opened = new Model();
    opened.spec = site.spec;
    opened.#encoder = new Encoder(tokenizer, site.spec, site.frames);
    opened.#session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return opened;
  }

  /** The answer to {text, text_pair}. One request a run: answers do not depend on their neighbours. */
  async answer(request) {
    const output = await this.#run(this.#encoder.encode(request), this.#session.outputNames[0]);
    return read(this.spec, output);
  }

  /** Embeddings of candidates that were computed where the site was made: `bytes` are int16 [N, E]. */
  remember(candidates, bytes) {
    const codes = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const width = bytes.byteLength / 2 / candidates.length;
    for (const [row, text] of candidates.entries()) {
      const number = (_, place) => codes.getInt16(2 * (row * width + place), true) / UNIT;
      this.#candidates.set(text, Float32Array.from({ length: width }, number));
    }
  }

  /** The answer to a query and one candidate; where the model reads texts apart, each is read once. */
  async compare(query, candidate) {
    const { similarity } = this.spec;
    if (!similarity) return this.answer({ text: query, text_pair: candidate });
    const [one, other] = [await this.#asked(query), await this.#candidate(candidate)];
    const cosine = one.reduce((sum, value, place) => sum + value * other[place], 0);
    return read(this.spec, this.#logits(similarity.scale * cosine + similarity.bias));
  }

  #logits(score) {
    const { labels, positive } = this.spec;
    if (labels.length === 1) return [score];
    const place = positive == null ? 1 : labels.indexOf(positive);
    return labels.map((_, at) => (at === place ? score / 2 : -score / 2));
  }

  async #asked(text) {
    if (this.#query.text === text) return this.#query.embedding;
    const embedding = await this.#embedding(text);
    this.#query = { text, embedding };
    return embedding;
  }

  async #candidate(text) {
    if (!this.#candidates.has(text)) this.#candidates.set(text, await this.#embedding(text));
    return this.#candidates.get(text);
  }

  async #embedding(text) {
    return Float32Array.from(await this.#run(this.#encoder.apart(text), EMBEDDING));
  }

  async #run({ ids, types }, output) {
    const rows = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: types };
    const feed = {};
    for (const name of this.spec.inputs) {
      feed[name] = new ort.Tensor("int64", BigInt64Array.from(rows[name], BigInt), [1, ids.length]);
    }
    const { data } = (await this.#session.run(feed, [output]))[output];
    if (!data.every(Number.isFinite)) throw new Error("the model's output is not a finite number");
    return data;
  }
}
