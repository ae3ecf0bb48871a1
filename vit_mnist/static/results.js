// What is known of one image: the model's answer, what every query of every layer attends to, maps of other methods.

import { isPlace, queryOn } from "./state.js";

const count = (grid, side = 1) => (grid ? Math.ceil(grid[0] / side) * Math.ceil(grid[1] / side) : 0);
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
const rowName = (layer, query) => JSON.stringify([layer, query]);

// Rows of shares as Python packs them: a byte a share, in steps of 1/255 of the largest of its row.
export class PackedRows {
  constructor(scales, codes) {
    Object.assign(this, { scales, codes, cells: codes.length / scales.length });
  }
  add(values, row, weight) {
    const at = row * this.cells, share = this.scales[row] / 255 * weight;
    for (let i = 0; i < values.length; i++) values[i] += this.codes[at + i] * share;
  }
  at(row, cell) { return (this.codes[row * this.cells + cell] * this.scales[row]) / 255; }
}

export class Result {
  // `tables`: for each layer its rows, heads one after the other, and blocks of patches where single ones are too many.
  constructor(data, { probs, shown, maps }, tables) {
    this.layers = data.layers;
    this.pad = data.pad;
    this.probs = probs; // of each class; null where the model has none
    this.shown = shown ?? range(0, probs?.length ?? 0); // classes that have a bar
    this.maps = maps; // by name of the method
    this.tables = tables;
    this.rows = new Map(); // single patches by head, asked for later
    this.more = new Map(); // maps of further classes, asked for later
  }

  // The class that the model says.
  get said() { return this.probs ? this.probs.indexOf(Math.max(...this.probs)) : null; }

  keepRow(layer, query, rows) { this.rows.set(rowName(layer, query), rows); }
  keepMap(method, target, values) { this.more.set(JSON.stringify([method, target]), values); }

  // What one query attends to: a number for each place of the layer's grid of keys, row by row; null if not known.
  read({ layer: number, head, query }) {
    const layer = this.layers[number], place = isPlace(query);
    if (!layer?.keys) return null;
    const names = layer.names.length, patches = layer.block ? 1 : count(layer.queries); // in blocks: their mean, here
    let [rows, blocks] = this.tables[number], each = names + patches, asked;
    if (query === "mean") asked = range(names, each);
    else asked = [place ? names + query[0] * layer.queries[1] + query[1] : layer.names.indexOf(query)];
    if (place && layer.block) {
      const kept = this.rows.get(rowName(number, query));
      if (!kept) return head === null ? this.#readBlock(layer, blocks, query) : null;
      (rows = kept), (each = 1), (asked = [0]);
    }
    const heads = head === null ? range(0, layer.heads) : [head], values = new Float32Array(count(layer.keys));
    for (const h of heads) for (const row of asked) rows.add(values, h * each + row, 1 / heads.length / asked.length);
    return values;
  }

  // The mean over heads, over blocks of patches.
  #readBlock({ block, queries, keys }, blocks, [row, column]) {
    const cell = (grid, r, c) => Math.floor(r / block) * Math.ceil(grid[1] / block) + Math.floor(c / block);
    const at = cell(queries, row, column), values = new Float32Array(count(keys));
    return values.map((_, i) => blocks.at(at, cell(keys, Math.floor(i / keys[1]), i % keys[1])));
  }

  // Is a patch known as the mean over heads alone?
  isMean({ layer, query, method }) {
    const single = method === "attention" && isPlace(query) && this.layers[layer]?.block;
    return Boolean(single) && !this.rows.has(rowName(layer, query));
  }

  // The map on show, with its grid: of a query and a head, or of a method and a target.
  map(s) {
    if (s.method === "attention") return { values: this.read(s), grid: this.layers[s.layer]?.keys, pad: this.pad };
    const method = this.maps[s.method];
    if (!method) return { values: null };
    const target = s.target ?? this.said, single = method.values.length > 1 ? target : 0;
    const at = method.classes ? method.classes.indexOf(target) : single;
    const values = method.values[at] ?? this.more.get(JSON.stringify([s.method, target])) ?? null;
    return { values, grid: method.grid, pad: 0 }; // a border that the model adds is on no map of a method
  }

  // All maps of one kind: of every layer and head, or of every class.
  all(s) {
    if (s.method !== "attention") return [...this.maps[s.method].values, ...this.more.values()];
    return this.layers.flatMap((layer, i) => {
      if (!layer.keys) return [];
      const there = { ...s, layer: i, query: queryOn(layer, s.query, this.layers[s.layer].queries) };
      const heads = this.isMean(there) ? [null] : [null, ...range(0, layer.heads)];
      return heads.map((head) => this.read({ ...there, head })).filter(Boolean);
    });
  }
}

// Read what Python's `image_result` packs: the scales of all layers, then all their bytes.
export function unpack(data, result, bytes) {
  let floats = 0, codes = 4 * data.layers.flatMap(sizes).reduce((sum, [rows]) => sum + rows, 0);
  const tables = data.layers.map((layer) => sizes(layer).map(([rows, cells]) => {
    const scales = new Float32Array(bytes.buffer, floats, rows);
    const shares = new Uint8Array(bytes.buffer, codes, rows * cells);
    floats += 4 * rows;
    codes += rows * cells;
    return new PackedRows(scales, shares);
  }));
  return new Result(data, result, tables);
}

// For one layer [rows, cells] of what is stored; for large grids all heads of named queries, then the mean in blocks.
function sizes({ heads, names, queries, keys, block }) {
  if (!keys) return [];
  if (!block) return [[heads * (names.length + count(queries)), count(keys)]];
  return [[heads * (names.length + 1), count(keys)], [count(queries, block), count(keys, block)]];
}
