// Where the explorer's results come from. It asks one source, and there are three: results that Python computed
// beforehand, Python itself, and the model in the page (model.js). All have
//
//   get(state)       the Result of this image, step and heads off; null while it is not known
//   ask(state)       see to it that what this view lacks becomes known; then `onchange()` is called
//   forget(image)    another image stands in this place now
//   waiting          words in the place of what is not known

import { addKind } from "./meet.js";
import { PackedRows, unpack } from "./results.js";
import { key } from "./state.js";

// Bytes of base64; what Python wrote into the page.
export function fromText(text) {
  let letters = null;
  try { letters = atob(text); } catch { throw new Error("The page is damaged: it holds what is no base64."); }
  return Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
}
const own = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice(); // so that floats align

export class Source {
  waiting = "Not stored in this page.";
  known = new Map();
  onchange = () => {};

  constructor(data) { this.data = data; }
  get(state) { return this.known.get(key(state)) ?? null; }
  ask() {}
  forget(image) {
    for (const name of [...this.known.keys()]) if (JSON.parse(name)[0] === image) this.known.delete(name);
  }
}

// ---- results computed beforehand

export class StoredSource extends Source {
  constructor(data) {
    super(data);
    for (const result of data.results ?? []) {
      this.known.set(key(result), unpack(data, result, fromText(result.attention)));
    }
  }
}
addKind("stored", (data) => new StoredSource(data));

// ---- Python in a running kernel, which answers messages

export class KernelSource extends Source {
  waiting = "The kernel computes…";
  #asked = new Set(); // an answer may be on its way while the user moves on
  #send;

  constructor(data, send) {
    super(data);
    this.#send = send;
  }

  // All of an image that is not known; of a large model also one patch by head, or the map of one class more.
  ask(s) {
    const { image, step, off, layer, query, method, target } = s, need = { image, step, off }, result = this.get(s);
    const lacks = result?.maps[method] && target !== null && !result.map(s).values;
    if (!result) this.#request(need);
    else if (result.isMean(s)) this.#request({ ...need, layer, query });
    else if (lacks) this.#request({ ...need, method, target });
  }
  #request(need) {
    const name = this.#name(need);
    if (this.#asked.has(name)) return;
    this.#asked.add(name);
    this.#send(need);
  }
  #name(need) { return JSON.stringify([key(need), need.layer, need.query, need.method, need.target]); }

  answer(result, view) {
    const known = this.get(result);
    this.#asked.delete(this.#name(result));
    if (result.row) {
      const bytes = own(view), { heads } = this.data.layers[result.layer];
      const rows = new PackedRows(new Float32Array(bytes.buffer, 0, heads), new Uint8Array(bytes.buffer, 4 * heads));
      known?.keepRow(result.layer, result.query, rows);
    } else if (result.more) known?.keepMap(result.method, result.target, result.more.values[0]);
    else this.known.set(key(result), unpack(this.data, result, own(view)));
    this.onchange();
  }
}
