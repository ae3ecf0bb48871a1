// Where the explorer stands: nine values, which Python's `AttentionExplorer` has under the same names.
//
//   image, layer          numbers from 0
//   head                  a number; null is the mean of all
//   query                 a token's name ("cls"), "mean" or a place [row, column]
//   method, target        what is shown; the class that it explains, null is what the model says
//   step                  of training; null is the end
//   off                   heads that are switched off, [layer, head] each
//   same_scale            one scale of colours for all maps

export const NAMES = ["image", "layer", "head", "query", "method", "target", "step", "off", "same_scale"];

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
export const isOff = ({ off, layer }, head) => off.some(([l, n]) => l === layer && n === head);
export const isPlace = (query) => Array.isArray(query);
const clamp = (v, n) => Math.min(Math.max(v, 0), Math.max(n - 1, 0));

// What one result depends on: the image, the step of training and the heads that are off, in any order.
export function key({ image, step, off }) {
  return JSON.stringify([image, step, [...off].sort((a, b) => a[0] - b[0] || a[1] - b[1])]);
}

export function start({ layers, methods, state }) {
  const first = { image: 0, layer: layers.length - 1, head: null, query: "cls", method: methods[0]?.name };
  return { ...first, target: null, step: null, off: [], same_scale: false, ...state };
}

// A query on a layer: the same place on its grid, from a grid `old`, or a name that it has. Python moves its attribute
// by the same rule.
export function queryOn({ queries, names }, query, old) {
  if (isPlace(query) && queries) {
    return query.map((v, i) => clamp(Math.floor((v * queries[i]) / (old ?? queries)[i]), queries[i]));
  }
  if (query === "mean" && queries) return query;
  return names.includes(query) ? query : names[0] ?? "mean";
}

// The nearest state that there is, after one `before` it.
export function fit(state, before, { images, layers }) {
  const s = { ...state, image: clamp(state.image, images.length), layer: clamp(state.layer, layers.length) };
  const layer = layers[s.layer], old = layers[before?.layer]?.queries;
  if (!layer?.keys) return s;
  if (s.head !== null) s.head = clamp(s.head, layer.heads);
  const moved = old && before.layer !== s.layer && same(s.query, before.query);
  s.query = queryOn(layer, s.query, moved ? old : layer.queries);
  return s;
}
