// Numbers as colours.

const CIVIDIS = "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 "
  + "dec958 f0d846 fee838";
const PURPLE_ORANGE = "2d004b 451871 5f3a91 7b6aa8 9990bf b7b1d5 cfcfe5 e4e5f0 f7f7f6 fce8cd fed59f fdbc6b ee9b39 "
  + "d97b12 bd6109 9e4c07 7f3b08";

// The least and the largest of numbers, or of numbers known already.
export function extent(values, [low, high] = [0, 0]) {
  return [values.reduce((a, b) => Math.min(a, b), low), values.reduce((a, b) => Math.max(a, b), high)];
}

// The colour at a place between 0 and 1, mixed from its neighbours.
function palette(text) {
  const stops = text.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const at = (t) => {
    const x = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(x), stops.length - 2);
    return `rgb(${stops[i].map((v, j) => Math.round(v + (stops[i + 1][j] - v) * (x - i))).join(" ")})`;
  };
  at.css = `linear-gradient(to right, ${text.split(" ").map((hex) => "#" + hex).join(", ")})`;
  return at;
}
export const sequential = palette(CIVIDIS);
export const diverging = palette(PURPLE_ORANGE);

// Attention starts at nothing; what can be negative (a gradient, say) is drawn about the middle of a diverging palette.
export function scaleOf(values) {
  const [low, high] = extent(values);
  if (low >= -1e-12) return { low: 0, high, colour: (v) => sequential(high ? v / high : 0), css: sequential.css };
  const most = Math.max(high, -low);
  return { low: -most, high: most, colour: (v) => diverging(0.5 + (0.5 * v) / most), css: diverging.css };
}
