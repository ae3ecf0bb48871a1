// A drawing moved, turned and made larger or smaller, on the pixels that the model sees.
//
// For each new pixel the place is found that it comes from: back by the move, back by the turn about the middle,
// divided by the growth. A place between pixels has the weighted mean of the four around it; outside is no ink.

export const STILL = { across: 0, down: 0, turn: 0, grow: 1 };
export const LIMITS = { across: [-10, 10], down: [-10, 10], turn: [-180, 180], grow: [0.4, 1.6] };
export const isStill = (move) => Object.entries(STILL).every(([name, value]) => (move?.[name] ?? value) === value);

// across and down in pixels, turn in degrees (clockwise), grow: 2 is twice as large
export function transformImage(pixels, { across, down, turn, grow }, side = 28) {
  const middle = (side - 1) / 2,
    angle = (turn * Math.PI) / 180,
    cos = Math.cos(angle) / grow,
    sin = Math.sin(angle) / grow;
  const ink = (y, x) => (y >= 0 && x >= 0 && y < side && x < side ? pixels[y * side + x] : 0);
  return Uint8Array.from(pixels, (_, i) => {
    const dx = (i % side) - middle - across,
      dy = Math.floor(i / side) - middle - down;
    const x = middle + cos * dx + sin * dy,
      y = middle - sin * dx + cos * dy;
    const left = Math.floor(x),
      top = Math.floor(y),
      right = x - left,
      below = y - top;
    const above = (1 - right) * ink(top, left) + right * ink(top, left + 1);
    const under = (1 - right) * ink(top + 1, left) + right * ink(top + 1, left + 1);
    return Math.round((1 - below) * above + below * under);
  });
}
