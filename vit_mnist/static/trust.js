// Is the answer to be trusted? The twin of `Trust.score` in the Python package (63_trust), for a model that `vit.js`
// runs: four scores that are high for what is no digit, weighed against a threshold chosen on validation data.
//
// `judge` needs what `forward` returned, the facts that `trust_facts` wrote, and the image itself (bytes of 28 x 28).

import { layerNorm, product, readSafetensors } from "./vit.js";

// ---- 1. What the facts hold
// Numbers travel as the content of a safetensors file in base64; it is read once for each object of facts.

const read = new WeakMap();

function tensorsOf(facts) {
  if (!read.has(facts)) {
    const { tensors } = readSafetensors(Uint8Array.from(atob(facts.tensors), (letter) => letter.charCodeAt(0)));
    read.set(facts, Object.fromEntries(tensors));
  }
  return read.get(facts);
}

// ---- 2. Doubt
// How little is left for the other classes (the logarithm of 1 less the largest probability), and how little evidence
// there is for any class (the energy, Liu et al., 2020).

function logSumExp(numbers) {
  const most = Math.max(...numbers);
  return most + Math.log(numbers.reduce((sum, x) => sum + Math.exp(x - most), 0));
}

function doubts(logits) {
  const all = [...logits], top = all.indexOf(Math.max(...all)), energy = -logSumExp(all);
  return [logSumExp(all.filter((_, i) => i !== top)) + energy, energy];
}

// ---- 3. Distance
// The token that the classifier reads, moved to where the spread of every class is round, and from there the way to
// the nearest class's mean (Mahalanobis' distance), as a logarithm.

function distance(tokens, facts, { whiten, means, "norm.weight": weight, "norm.bias": bias }) {
  const dim = whiten.shape[0], n = tokens.length / dim, normed = new Float32Array(tokens.length);
  layerNorm(normed, tokens, n, dim, { weight: weight.values, bias: bias.values });
  const token = normed.slice(0, dim), placed = new Float32Array(dim);
  if (facts.pool === "mean") token.forEach((_, k) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += normed[i * dim + k];
    token[k] = sum / n;
  });
  product(placed, token, whiten.values, 1, dim, dim);
  let nearest = Infinity;
  for (let at = 0; at < means.values.length; at += dim)
    nearest = Math.min(nearest, placed.reduce((sum, x, k) => sum + (x - means.values[at + k]) ** 2, 0));
  return Math.log(Math.max(Math.sqrt(nearest), 1e-6));
}

// ---- 4. Looks
// A small network that has learnt what digits look like: convolutions of 3 x 3 pixels that halve the side, each number
// below 0 made 0, then two linear layers. A table is [channels, side, side].

function convolve(table, side, { shape, values: kernel }, bias) {
  const [channels, depth] = shape, half = Math.ceil(side / 2), out = new Float32Array(channels * half * half);
  for (let c = 0, to = 0; c < channels; c++) for (let y = 0; y < half; y++) for (let x = 0; x < half; x++, to++) {
    let sum = bias.values[c];
    for (let d = 0; d < depth; d++) for (let i = 0; i < 9; i++) {
      const row = 2 * y + Math.floor(i / 3) - 1, column = 2 * x + (i % 3) - 1;
      if (row < 0 || column < 0 || row >= side || column >= side) continue;
      sum += kernel[(c * depth + d) * 9 + i] * table[(d * side + row) * side + column];
    }
    out[to] = Math.max(sum, 0);
  }
  return out;
}

function looks(pixels, tensors) {
  let table = Float32Array.from(pixels, (shade) => shade / 255), side = 28;
  for (let i = 0; tensors[`conv${i}.weight`]; i++) {
    table = convolve(table, side, tensors[`conv${i}.weight`], tensors[`conv${i}.bias`]);
    side = Math.ceil(side / 2);
  }
  for (const name of ["hidden", "out"]) {
    const { shape: [rows, columns], values } = tensors[`${name}.weight`], next = new Float32Array(rows);
    product(next, table, values, 1, rows, columns, tensors[`${name}.bias`].values);
    table = name === "hidden" ? next.map((x) => Math.max(x, 0)) : next;
  }
  return table[0];
}

// ---- 5. The verdict
// Each score is measured from its mean over digits, in its spread, and none counts beyond 10 of these. An empty image
// is never trusted. `reason` names the score that speaks most against the image.

const REASONS = {
  probability: "no class is probable", energy: "little speaks for any class",
  distance: "unlike the images it has learnt", looks: "it does not look like a digit",
};

export function judge(result, facts, pixels) {
  if (!pixels.some((shade) => shade)) return { score: Infinity, trusted: false, reason: "there is no ink" };
  const tensors = tensorsOf(facts), names = facts.scores, [centre, scale, weights] = ["centre", "scale", "weights"].map((name) => tensors[name].values);
  const all = { looks: names.includes("looks") ? looks(pixels, tensors) : 0, distance: distance(result.tokens.at(-1), facts, tensors) };
  [all.probability, all.energy] = doubts(result.logits);
  const shares = names.map((name, i) => weights[i] * Math.min(Math.max((all[name] - centre[i]) / scale[i], -10), 10));
  const score = shares.reduce((a, b) => a + b, 0), trusted = score <= facts.threshold;
  return { score, trusted, reason: trusted ? "" : REASONS[names[shares.indexOf(Math.max(...shares))]] };
}
