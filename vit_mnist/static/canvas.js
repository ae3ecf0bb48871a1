// Images and maps on a canvas. Every picture covers the image and the `pad` pixels that the model adds around it.

// The border between ink and paper, along pixel edges: it stays visible over any colour.
function outline(image) {
  const [h, w] = image.side, path = new Path2D();
  const ink = (y, x) => y >= 0 && x >= 0 && y < h && x < w && image.pixels[y * w + x] > 127;
  for (let y = 0; y <= h; y++)
    for (let x = 0; x <= w; x++) {
      if (ink(y, x) !== ink(y - 1, x)) path.moveTo(x, y), path.lineTo(x + 1, y);
      if (ink(y, x) !== ink(y, x - 1)) path.moveTo(x, y), path.lineTo(x, y + 1);
    }
  return path;
}

export function begin(canvas, image, pad, width) {
  const [h, w] = image.side, unit = width / (w + 2 * pad);
  canvas.width = width;
  canvas.height = Math.round(unit * (h + 2 * pad));
  const tall = canvas.height / (1.5 * width);
  canvas.style.width = tall > 1 ? `${100 / tall}%` : "";
  const c = canvas.getContext("2d");
  c.setTransform(unit, 0, 0, unit, pad * unit, pad * unit);
  return { c, pixel: width / (canvas.clientWidth || width) / unit }; // a pixel of the page, in those of the image
}

export function cellBox(image, pad, grid, [row, column]) {
  const height = (image.side[0] + 2 * pad) / grid[0], width = (image.side[1] + 2 * pad) / grid[1];
  return [column * width - pad, row * height - pad, width, height];
}

// A photograph on a canvas of its own size.
export function photograph({ shape: [h, w, channels], pixels }) {
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const c = canvas.getContext("2d"), filled = c.createImageData(w, h);
  for (let i = 0; i < h * w; i++)
    for (let j = 0; j < 4; j++) filled.data[4 * i + j] = j === 3 ? 255 : pixels[channels === 3 ? 3 * i + j : i];
  c.putImageData(filled, 0, 0);
  return canvas;
}

// A digit dark on white; a photograph as it is, gray or in its colours.
export function drawImage(c, image, pad) {
  const [h, w] = image.side;
  c.fillStyle = "#fff";
  c.fillRect(-pad, -pad, w + 2 * pad, h + 2 * pad);
  if (!image.drawing) {
    image.canvas ??= photograph(image);
    c.imageSmoothingEnabled = Math.max(h, w) > 64; // of fewer pixels each is seen
    c.imageSmoothingQuality = "high";
    return c.drawImage(image.canvas, 0, 0, w, h);
  }
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const gray = 255 - image.pixels[y * w + x];
      if (gray < 255) (c.fillStyle = `rgb(${gray} ${gray} ${gray})`), c.fillRect(x, y, 1.02, 1.02);
    }
}

// Over a digit a map is drawn cell by cell with the digit's outline; over a photograph smoothly, so that it shines
// through.
export function drawMap(c, image, pad, grid, values, scale, whole) {
  if (!image.drawing) return drawImage(c, image, whole), drawSmooth(c, image, pad, grid, values, scale);
  for (let i = 0; i < values.length; i++) {
    const [x, y, w, h] = cellBox(image, pad, grid, [Math.floor(i / grid[1]), i % grid[1]]);
    c.fillStyle = scale.colour(values[i]);
    c.fillRect(x, y, w * 1.005, h * 1.005); // a hair too large, or the background shows between cells
  }
  image.outline ??= outline(image);
  for (const [colour, width] of [["rgb(0 0 0 / .55)", 0.5], ["#fff", 0.22]]) {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke(image.outline);
  }
}

function drawSmooth(c, image, pad, grid, values, scale) {
  const cells = document.createElement("canvas"), small = cells.getContext("2d"), [h, w] = image.side;
  [cells.height, cells.width] = grid;
  values.forEach((value, i) => {
    small.fillStyle = scale.colour(value);
    small.fillRect(i % grid[1], Math.floor(i / grid[1]), 1, 1);
  });
  c.globalAlpha = 0.6;
  c.imageSmoothingEnabled = true;
  c.imageSmoothingQuality = "low"; // bilinear
  c.drawImage(cells, -pad, -pad, w + 2 * pad, h + 2 * pad);
  c.globalAlpha = 1;
}

export function drawGrid(c, image, pad, grid, pixel) {
  if (cellBox(image, pad, grid, [0, 0])[2] < 8 * pixel) return; // the lines would hide the image
  c.strokeStyle = "rgb(59 130 246 / .75)";
  c.lineWidth = pixel * 1.25;
  for (let i = 0; i < grid[0] * grid[1]; i++)
    c.strokeRect(...cellBox(image, pad, grid, [Math.floor(i / grid[1]), i % grid[1]]));
}

export function drawRing(c, image, pad, grid, cell, pixel) {
  const [x, y, w, h] = cellBox(image, pad, grid, cell);
  for (const [colour, width] of [["#fff", 4], ["#c2410c", 2.4]]) {
    c.strokeStyle = colour;
    c.lineWidth = width * pixel;
    c.strokeRect(x, y, w, h);
  }
}
