// Painting heatmaps: what the library's own overlays look like, without its code.

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

// Where each of `size` pixels lies between the `length` cells: pixel centres at halves, the outermost cells go on.
const between = (size, length) => Array.from({ length: size }, (_, index) => {
  const centre = Math.min(Math.max((index + 0.5) * length / size - 0.5, 0), length - 1);
  const low = Math.floor(centre);
  return [low, Math.min(low + 1, length - 1), centre - low];
});

// Upsample `cells` (whole numbers, row by row, `[rows, columns]`) bilinearly, and paint them by a table of RGBA.
const paint = (canvas, cells, [rows, columns], width, height, table, outlines = false) => {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), colours = new Uint32Array(table.buffer);
  const across = between(width, columns);
  let at = 0;
  for (const [top, bottom, down] of between(height, rows)) {
    for (const [left, right, along] of across) {
      const above = cells[top * columns + left] * (1 - along) + cells[top * columns + right] * along;
      const below = cells[bottom * columns + left] * (1 - along) + cells[bottom * columns + right] * along;
      pixels[at++] = colours[Math.round(above + (below - above) * down)];
    }
  }
  if (outlines) keepBorders(pixels, width, height);
  context.putImageData(image, 0, 0);
};

// Clear what is further than a line's width from another colour.
const keepBorders = (pixels, width, height) => {
  const reach = Math.max(1, Math.round(Math.min(width, height) / 150)), regions = pixels.slice();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const own = regions[y * width + x];
      let border = false;
      for (let row = Math.max(0, y - reach); row <= Math.min(height - 1, y + reach) && !border; row++) {
        for (let column = Math.max(0, x - reach); column <= Math.min(width - 1, x + reach); column++) {
          if (regions[row * width + column] !== own) border = true;
        }
      }
      if (!border) pixels[y * width + x] = 0;
    }
  }
};

// The size with `longest` as its longer side that has the shape of `[width, height]`.
const fit = ([width, height], longest) => {
  const scale = longest / Math.max(width, height);
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
};
