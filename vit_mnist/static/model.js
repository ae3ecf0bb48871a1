// The model in the page as the explorer's source: nothing is stored, every answer is computed when it is asked for.

import { Result } from "./results.js";
import { Source, fromText } from "./sources.js";
import { key } from "./state.js";
import { ViT } from "./vit.js";

const KEPT = 100; // results of so many views, about 60 KB each for 50 tokens, 6 layers and 4 heads

// What all tokens attend to in one layer, [heads, tokens, tokens]; a class token is a query without a place, and no key
// on the map.
class TokenRows {
  constructor(attention, { tokens, cls }) { Object.assign(this, { attention, tokens, cls }); }
  add(values, row, weight) {
    const at = row * this.tokens + this.cls;
    for (let i = 0; i < values.length; i++) values[i] += this.attention[at + i] * weight;
  }
}

// Rollout (Abnar and Zuidema, 2020). A token's next self is half itself and half what its heads brought; followed down
// from the token that answers, layer by layer, this says how much of the answer came from each patch. A head that is
// off brings nothing.
export function rollout(attention, { heads, tokens: n, cls }, on) {
  let row = new Float32Array(n);
  if (cls) row[0] = 1; else row.fill(1 / n);
  for (let layer = attention.length - 1; layer >= 0; layer--) {
    const below = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const mixed = new Float32Array(n);
      mixed[i] = 1;
      for (let head = 0; head < heads; head++) for (let j = 0; j < n; j++) {
        mixed[j] += on[layer][head] * attention[layer][(head * n + i) * n + j] / heads;
      }
      const sum = mixed.reduce((a, b) => a + b, 0);
      for (let j = 0; j < n; j++) below[j] += row[i] * mixed[j] / sum;
    }
    row = below;
  }
  return row.subarray(cls);
}

// All heads on but those of `off`, [layer, head] each: [layer][head].
export function headMask({ depth, heads }, off) {
  const on = Array.from({ length: depth }, () => Array(heads).fill(1));
  for (const [layer, head] of off) on[layer][head] = 0;
  return on;
}

// Probabilities of logits.
export function shares(logits) {
  const most = Math.max(...logits), parts = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = parts.reduce((a, b) => a + b, 0);
  return parts.map((part) => part / sum);
}

export class ModelSource extends Source {
  #empty = [];

  constructor(data, model = new ViT(fromText(data.weights))) {
    super(data);
    this.model = model;
  }

  // Patches, by number, that are emptied in every image.
  get empty() { return this.#empty; }
  set empty(patches) {
    this.#empty = patches;
    this.known.clear();
  }

  forward(pixels, { off = [], empty = this.#empty, model = this.model } = {}) {
    const patches = empty.length ? Array.from({ length: model.patches }, (_, i) => (empty.includes(i) ? 0 : 1)) : null;
    return model.forward(pixels, { heads: headMask(model, off), patches });
  }

  get(state) {
    const name = key(state);
    if (!this.known.has(name)) {
      if (this.known.size === KEPT) this.known.delete(this.known.keys().next().value);
      this.known.set(name, this.#compute(state));
    }
    return this.known.get(name);
  }

  #compute({ image, off }) {
    const { model } = this, result = this.forward(this.data.images[image].pixels, { off });
    const values = [rollout(result.attention, model, headMask(model, off))];
    const maps = { rollout: { grid: [model.rows, model.columns], values, block: 1, classes: null } };
    const tables = result.attention.map((layer) => [new TokenRows(layer, model)]);
    return Object.assign(new Result(this.data, { probs: shares(result.logits), maps }, tables), { raw: result });
  }
}
