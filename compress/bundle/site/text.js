/** Text to token ids, the same way as `compress/runtime/text.py`. */
import { Tokenizer } from "./lib/tokenizers.js";

export class Encoder {
  /**
   * @param tokenizer  content of tokenizer.json, parsed
   * @param spec       how text becomes an answer, as in the bundle's manifest
   * @param frames     ids of special tokens: `single` [before, after], `pair` [before, between, after]
   */
  constructor(tokenizer, spec, frames) {
    const parts = { ...tokenizer, pre_tokenizer: mended(tokenizer.pre_tokenizer) };
    this.tokenizer = new Tokenizer(parts, {});
    this.spec = spec;
    this.frames = frames;
  }

  /** {ids, types} of one text of at most `length` tokens, special ones included. */
  single(text, length = this.spec.max_length) {
    const [before, after] = this.frames.single;
    const ids = [...before, ...this.#plain(text).slice(0, length - before.length - after.length), ...after];
    return { ids, types: ids.map(() => 0) };
  }

  /** One text by itself, of a model that reads two texts apart: each has half of the room. */
  apart(text) {
    return this.single(text, Math.floor(this.spec.max_length / 2));
  }

  /** {ids, types} of a request: type 0 up to the first token of the second text, 1 from there on. */
  encode({ text, text_pair: second }) {
    if (!this.spec.two_texts) return this.single(text);
    if (this.spec.similarity) {
      const [one, other] = [this.apart(text), this.apart(second)];
      return { ids: [...one.ids, ...other.ids], types: [...one.types, ...other.types.map(() => 1)] };
    }
    const [before, between, after] = this.frames.pair;
    const room = this.spec.max_length - before.length - between.length - after.length;
    const [first, last] = longestFirst(this.#plain(text + this.spec.separator), this.#plain(second), room);
    const head = [...before, ...first, ...between];
    const tail = [...last, ...after];
    const type = last.length ? 1 : 0;
    return { ids: [...head, ...tail], types: [...head.map(() => 0), ...tail.map(() => type)] };
  }

  #plain(text) {
    return this.tokenizer.encode(text, { add_special_tokens: false }).ids;
  }
}

/** The package's own `Whitespace` splits words at letters beyond ASCII; its `Split` knows all of them. */
function mended(part) {
  if (part?.type === "Sequence") return { ...part, pretokenizers: part.pretokenizers.map(mended) };
  if (part?.type !== "Whitespace") return part;
  return { type: "Split", pattern: { Regex: "\\w+|[^\\w\\s]+" }, behavior: "Removed", invert: true };
}

/** Two rows of tokens cut to `room` together: the longer one first, then both to a half. */
function longestFirst(first, second, room) {
  if (first.length + second.length <= room) return [first, second];
  let [short, long] = [first.length, second.length].sort((a, b) => a - b);
  long = short > room ? short : Math.max(short, room - short);
  if (short + long > room) {
    short = Math.floor(room / 2);
    long = short + (room % 2);
  }
  const [one, other] = first.length > second.length ? [long, short] : [short, long];
  return [first.slice(0, one), second.slice(0, other)];
}
