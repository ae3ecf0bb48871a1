// A drawing made like MNIST's digits: the twin of `prepare_digit` in the Python package, step for step.
//
// The paper's shade is taken from the border, what differs from it is ink; the box of the ink is scaled to 20 pixels
// and placed so that its centre of mass is the middle of 28 x 28. Tables are flat, row after row.

// Python's `round`: a half goes to the even neighbour.
function round(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

// The value below which a share of the numbers lies, between its two neighbours where it falls between them.
function quantile(numbers, share) {
  const sorted = Float64Array.from(numbers).sort(), at = share * (numbers.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// The plane z = p + q y + r x nearest to points [y, x, z]: least squares, solved by elimination.
function fitPlane(points) {
  const system = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]; // left side and, last, right side
  for (const [y, x, z] of points) {
    const terms = [1, y, x, z];
    for (let i = 0; i < 3; i++) for (let j = 0; j < 4; j++) system[i][j] += terms[i] * terms[j];
  }
  for (let i = 0; i < 3; i++) for (let row = 0; row < 3; row++) {
    const factor = row === i ? 0 : system[row][i] / system[i][i];
    for (let j = i; j < 4; j++) system[row][j] -= factor * system[i][j];
  }
  return system.map((row, i) => row[3] / row[i]);
}

// Light may be uneven: the paper's shade is a plane through the border, without the quarter that fits it worst.
function findPaper(gray, width, height) {
  const border = [];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
    if (y === 0 || y === height - 1 || x === 0 || x === width - 1) border.push([y / height, x / width, gray[y * width + x]]);
  const middle = quantile(border.map(([, , z]) => z), 0.5);
  let errors = border.map(([, , z]) => Math.abs(z - middle)), plane;
  for (let round = 0; round < 3; round++) {
    const bound = quantile(errors, 0.75);
    plane = fitPlane(border.filter((_, i) => errors[i] <= bound));
    errors = border.map(([y, x, z]) => Math.abs(z - plane[0] - plane[1] * y - plane[2] * x));
  }
  return { plane, grain: quantile(errors, 0.75) };
}

// Ink is what differs from the paper, in whichever direction differs more; from 0 to 1, null where there is none.
function findInk(gray, width, height) {
  const { plane: [p, q, r], grain } = findPaper(gray, width, height);
  const ink = Float64Array.from(gray, (shade, i) => shade - p - q * Math.floor(i / width) / height - r * (i % width) / width);
  const extreme = (pick, numbers) => numbers.reduce((a, b) => pick(a, b), 0);
  if (extreme(Math.max, ink) < -extreme(Math.min, ink)) ink.forEach((value, i) => { ink[i] = -value; });
  const strongest = extreme(Math.max, ink);
  if (strongest <= 1e-5 * extreme(Math.max, gray.map(Math.abs))) return null;
  const faint = Math.min(Math.max(5 * grain / strongest, 0.1), 0.5);
  return Float32Array.from(ink, (value) => (value / strongest < faint ? 0 : value / strongest));
}

// Resizing by Pillow's BOX: a new pixel is the mean of those whose centres fall into it. The result is turned on its
// side, [lines, from] to [to, lines], so that a second call does the other side and turns it back.
function resize(table, lines, from, to) {
  const out = new Float32Array(to * lines), scale = from / to, wide = Math.max(scale, 1);
  for (let k = 0; k < to; k++) {
    const centre = (k + 0.5) * scale, inside = [];
    const first = Math.trunc(centre - 0.5 * wide + 0.5), end = Math.trunc(centre + 0.5 * wide + 0.5);
    for (let i = Math.max(0, first); i < Math.min(from, end); i++) {
      const at = (i - centre + 0.5) * (1 / wide); // checked twice, as in Pillow, so that ties end as they do there
      if (at > -0.5 && at <= 0.5) inside.push(i);
    }
    for (let line = 0; line < lines; line++) {
      let sum = 0;
      for (const i of inside) sum += table[line * from + i];
      out[k * lines + line] = sum / inside.length;
    }
  }
  return out;
}

// The first of 28 pixels so that the centre of mass is in the middle, from the ink in each row (or column).
function findStart(sums) {
  const total = sums.reduce((a, b) => a + b), centre = sums.reduce((a, b, i) => a + i * b, 0) / total;
  return Math.min(Math.max(round(round((14 - centre) * 1e4) / 1e4), 0), 28 - sums.length);
}

// Returns the image, bytes [28, 28] with ink 255 on 0, and what was done to the drawing; null where there is no ink.
export function prepareDigit(gray, width, height = width) { // any shades, [height, width]
  const ink = findInk(gray, width, height);
  if (!ink) return null;
  let top = height, bottom = 0, left = width, right = 0; // the box of the ink
  ink.forEach((value, i) => {
    if (!value) return;
    const y = Math.floor(i / width), x = i % width;
    top = Math.min(top, y); bottom = Math.max(bottom, y + 1); left = Math.min(left, x); right = Math.max(right, x + 1);
  });
  const tall = bottom - top, wide = right - left, longer = Math.max(tall, wide);
  const place = (i) => (top + Math.floor(i / wide)) * width + left + (i % wide);
  const crop = Float32Array.from({ length: tall * wide }, (_, i) => ink[place(i)]);
  const [rows, columns] = [tall, wide].map((side) => Math.max(1, round(20 * side / longer)));
  const small = resize(resize(crop, tall, wide, columns), columns, tall, rows);
  const inRow = Array(rows).fill(0), inColumn = Array(columns).fill(0);
  small.forEach((value, i) => { inRow[Math.floor(i / columns)] += value; inColumn[i % columns] += value; });
  const y = findStart(inRow), x = findStart(inColumn), most = Math.max(...small), pixels = new Uint8Array(784);
  small.forEach((value, i) => { pixels[(y + Math.floor(i / columns)) * 28 + x + (i % columns)] = round(255 * value / most); });
  // where the middle of the box was and is, in MNIST's pixels, if the drawing is seen as 28 of them
  const unit = Math.max(width, height) / 28;
  const down = y + rows / 2 - (top + bottom) / 2 / unit, across = x + columns / 2 - (left + right) / 2 / unit;
  return { pixels, down: Math.round(down), across: Math.round(across), scale: 20 * unit / longer };
}

// What was done in words: "moved up 3, made 1.4 times larger".
export function describeStep({ down, across, scale }) {
  const way = (n, less, more) => (n ? [`${n < 0 ? less : more} ${Math.abs(n)}`] : []);
  const moves = [...way(down, "up", "down"), ...way(across, "left", "right")].join(" and ");
  const times = Math.max(scale, 1 / scale).toFixed(1);
  const size = times === "1.0" ? "" : `made ${times} times ${scale < 1 ? "smaller" : "larger"}`;
  return [moves && `moved ${moves}`, size].filter(Boolean).join(", ") || "left as it was drawn";
}
