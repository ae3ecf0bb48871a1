// A small curve: how probable some classes are along a range, which of them leads where, and where one stands now.

import { mostOf } from "./tokens.js";

const WIDTH = 720, HEIGHT = 250, LEFT = 70, RIGHT = 24, TOP = 30, BOTTOM = 44;

// Neighbours with the same answer are one stretch: [{ said, from, to }], places counted from 0.
export function stretches(answers) {
  const found = [];
  answers.forEach((said, i) => {
    if (found.at(-1)?.said === said) found.at(-1).to = i;
    else found.push({ said, from: i, to: i });
  });
  return found;
}

// `known`: probabilities at each place, [classes] each, as far as they are known; `ticks`: a text for some places.
export function drawCurve(canvas, { known, count, now, ticks, classes }) {
  const c = canvas.getContext("2d"), { color } = getComputedStyle(canvas);
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const x = (i) => LEFT + ((WIDTH - LEFT - RIGHT) * i) / Math.max(count - 1, 1), y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  const line = (points) => { c.beginPath(); points.forEach(([a, b]) => c.lineTo(a, b)); c.stroke(); };
  c.font = "22px system-ui, sans-serif";
  c.fillStyle = c.strokeStyle = color;
  c.lineWidth = 1.5;
  c.globalAlpha = 0.35;
  for (const share of [0, 1]) line([[LEFT, y(share)], [WIDTH - RIGHT, y(share)]]);
  c.globalAlpha = 1;
  c.textAlign = "right";
  for (const share of [0, 1]) c.fillText(share ? "100 %" : "0 %", LEFT - 8, y(share) + 8);
  c.textAlign = "center";
  for (const [i, text] of ticks) c.fillText(text, Math.min(Math.max(x(i), 40), WIDTH - 40), HEIGHT - 10);
  const answers = known.map(mostOf), leaders = [...new Set(answers)];
  leaders.forEach((said, order) => { // each in a line of its own kind, named where it is highest
    c.strokeStyle = order ? color : "#3b82f6";
    c.lineWidth = order ? 2.5 : 5;
    c.setLineDash([[], [14, 8], [4, 6]][order] ?? [2, 10]);
    line(known.map((shares, i) => [x(i), y(shares[said])]));
    const heights = known.map((shares) => shares[said]);
    c.setLineDash([]);
    c.font = "600 24px system-ui, sans-serif";
    c.fillText(classes[said], Math.max(x(mostOf(heights)), LEFT + 12), Math.max(y(Math.max(...heights)) - 8, 22));
  });
  if (now === null) return;
  c.strokeStyle = "#c2410c";
  c.lineWidth = 4;
  line([[x(now), TOP - 8], [x(now), HEIGHT - BOTTOM + 8]]);
}
