// The words of the page, and numbers as it writes them.

import { isOff, isPlace } from "./state.js";

// The sign of per cent is never on a line of its own.
export const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)}\u00a0%`;
export function number(value) {
  return value === 0 ? "0" : Math.abs(value) >= 0.01 ? value.toFixed(2) : value.toExponential(0);
}
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// What Help explains, a sentence each. Words of of methods are said only where the method is there.
export const TERMS = [
  ["Patch", "a small square of the image, one token for the model."],
  ["Class token (CLS)", "a token that belongs to no patch; the model reads its answer from it."],
  ["Query", "the token that looks: press a patch of the left picture, or choose a token below."],
  ["Attention", "the shares that a query takes from all tokens, 100 % together."],
  ["Layer", "a step of the model in which every token attends once; layer 0 comes first."],
  ["Head", "one of several attentions side by side in a layer, each with shares of its own."],
  ["Patch mean", "what all patches attend to on average."],
  ["Tokens without a place",
    "those that are no patch, such as the class token; what goes to them is missing on the map."],
  ["Uniform", "the share that each token would get if the query took the same from all."],
];
export const LOGIT = ["Logit",
  "the model's number for a class, from which its probability is made: the higher, the more likely."];
export const METHOD_TERMS = {
  rollout: "attention multiplied through all layers: from which patches the answer was mixed.",
  relevance: "attention that raises the logit of the chosen class, followed through all layers.",
};
export const LEGEND = [
  ["border: 2px solid #fff; outline: 1px solid #777",
    "White outline: the edge of the digit, drawn over the map.", "drawing"],
  ["scale", "Colour of a map: dark is little, bright is much; the numbers under it say how much."],
  ["diverging", "Where values can be negative: purple is below zero, white is zero, orange is above."],
  ["border: 1px solid #3b82f6", "Blue lines: the patches. The numbers beside them count rows and columns from 0."],
  ["border: 3px solid #c2410c", "Orange frame: the patch that is the query."],
  ["background: linear-gradient(90deg, #3b82f6 60%, transparent 60%)", "Blue bar: the model's probability of a class."],
  ["background: linear-gradient(90deg, transparent 45%, currentColor 45% 55%, transparent 55%)",
    "Line across a bar: the probability with all heads on."],
];

export const NO_SHEET = "The sheet needs Python: in a notebook, run this cell first (Shift + Enter).";

export function who(query) {
  if (isPlace(query)) return `patch (${query.join(", ")})`;
  return query === "cls" ? "class token" : query === "mean" ? "patch mean" : query;
}

// What a view shows, in a sentence or two: of a state, with the result that is known of it, and the cell pointed at.
export function describe(data, s, result, pointed) {
  const layer = data.layers[s.layer], method = data.methods.find((m) => m.name === s.method);
  const { values, grid } = result.map(s), raw = s.method === "attention";
  if (layer?.note && raw) return layer.note;
  if (!values) return null;
  const side = raw ? result.isMean(s) && layer.block : result.maps[s.method].block;
  const coarse = side > 1 ? ` Means over blocks of ${side} × ${side} ${raw ? "patches" : "pixels"}.` : "";
  const shown = pointed?.every((v, i) => v < grid[i]) ? pointed : null;
  const at = shown ? shown[0] * grid[1] + shown[1] : values.indexOf(values.reduce((a, b) => Math.max(a, b)));
  const value = (raw || method.share ? percent : number)(values[at]);
  const place = `row ${Math.floor(at / grid[1])}, column ${at % grid[1]} (${value})`;
  if (!raw) {
    const target = method.targets ? ` for ${data.classes[s.target ?? result.said]}` : "";
    return `${method.title}${target}: ${shown ? "" : "most at "}${place}. ${capital(method.about)}.${coarse}`;
  }
  const rest = 1 - values.reduce((a, b) => a + b, 0), off = s.off.filter(([l]) => l === s.layer).length;
  const more = layer.rest && rest > 0.005 ? `; ${percent(rest)} to tokens without a place` : "";
  const head = s.head === null ? `mean of all heads${off ? ` (${off} of them off)` : ""}` : `head ${s.head}`;
  const silent = isOff(s, s.head) ? " This head is switched off: the model gets nothing from it." : "";
  const what = `${who(s.query)} attends ${shown ? "to" : "most to"} ${place}${more}.`;
  return `Layer ${s.layer}, ${head}: ${what}${silent}${coarse}`;
}
