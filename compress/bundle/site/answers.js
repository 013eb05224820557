/** How a model's outputs are read, the same way as `compress/runtime/answers.py` and `compress/decide.py`. */

const NUMBERS = ["ranking", "regression"];

/** Float32 probabilities of logits; computed in float64, large values do not overflow. */
export function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => Math.fround(value / sum));
}

/** {score} for ranking and regression, else {label, score, probabilities} with a probability of each label. */
export function read(spec, logits) {
  if (NUMBERS.includes(spec.task)) {
    const { mean, std } = spec.standard ?? { mean: 0, std: 1 };
    return { score: logits[0] * std + mean };
  }
  const values = softmax(logits);
  const positive = spec.positive == null ? -1 : spec.labels.indexOf(spec.positive);
  const chosen = decide(values, positive, spec.threshold);
  const probabilities = Object.fromEntries(spec.labels.map((label, place) => [label, values[place]]));
  return { label: spec.labels[chosen], score: values[positive < 0 ? chosen : positive], probabilities };
}

/** Place of the most probable class; of two with a threshold, the positive one from the threshold on. */
function decide(values, positive, threshold) {
  if (positive < 0 || threshold == null || values.length !== 2) return values.indexOf(Math.max(...values));
  return values[positive] >= threshold ? positive : 1 - positive;
}
